"""The benchmark's own controls: the true frames, which must come first in every column, and the same ones shuffled."""

from __future__ import annotations

import torch

from interp_lib.types import Interpolation, Pair

MODEL = None


def make(model: None, pair: Pair, *, frames: int, seed: int, way: str = "truth") -> Interpolation:
    """way: "truth", or "shuffled", the true frames between in an order that leaves none in its place.

    Raises ValueError for a pair whose true frames are not known, or whose number is another one.
    """
    if pair.frames is None or len(pair.frames) != frames + 2:
        known = "none" if pair.frames is None else len(pair.frames) - 2
        raise ValueError(f"{pair.name} has {known} true frames between, not {frames}: the controls need them all.")
    images = pair.frames
    if way == "shuffled":
        if frames < 2:
            raise ValueError("one frame between cannot be shuffled: ask for two frames at least.")
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(frames, generator=generator)
        place = torch.empty_like(order)
        place[order] = order.roll(1)  # one cycle through all of them: nobody stays
        images = torch.cat([images[:1], images[1:-1][place], images[-1:]])
    return Interpolation(frames=images.clone(), latents=images.new_empty(0))
