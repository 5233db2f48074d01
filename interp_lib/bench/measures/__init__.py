"""Measures that need a flow or a network; `interp_lib.bench.evaluate` runs them by name."""

from __future__ import annotations


class Unavailable(RuntimeError):
    """A network that this machine lacks: the sentence says what to get, `cell` what a table shows instead."""

    def __init__(self, need: str, sentence: str):
        super().__init__(sentence)
        self.cell = f"n/a: {need}"  # such as "n/a: weights" or "n/a: pip install lpips"
