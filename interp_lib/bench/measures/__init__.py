"""Measures of made frames: structure, warping, frequency, perceptual distance and distributions of features.

Images are [N,3,H,W] and frames [T,3,H,W] in [0,1], both ends included; `interp_lib.bench.evaluate` runs them together.
"""

from __future__ import annotations


class Unavailable(RuntimeError):
    """A network that this machine does not have: the sentence says what to get, `cell` what a table shows instead.

    need: what is missing, "weights" or a command, as in "pip install lpips".
    """

    def __init__(self, need: str, sentence: str):
        super().__init__(sentence)
        self.need = need

    @property
    def cell(self) -> str:
        return f"n/a: {self.need}"
