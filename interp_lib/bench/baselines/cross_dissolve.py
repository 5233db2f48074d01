"""Cross-dissolve: the two images mixed, pixel by pixel. The least that anything must beat."""

from __future__ import annotations

import torch

from interp_lib.types import Interpolation, Pair

MODEL = None  # needs no network


def make(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """`frames` images between the pair's two, at times i/(frames+1), with both ends."""
    weight = torch.linspace(0, 1, frames + 2).view(-1, 1, 1, 1)
    mixed = (1 - weight) * pair.image0 + weight * pair.image1
    return Interpolation(frames=mixed, latents=mixed.new_empty(0))
