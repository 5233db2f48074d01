"""The nearer keyframe, held: no motion at all, and no ghosts either."""

from __future__ import annotations

import torch

from interp_lib.types import Interpolation, Pair

MODEL = None  # needs no network


def make(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Image 0 up to half-way, image 1 after it; the frame exactly half-way is image 0."""
    late = torch.linspace(0, 1, frames + 2) > 0.5
    held = torch.where(late.view(-1, 1, 1, 1), pair.image1, pair.image0)
    return Interpolation(frames=held, latents=held.new_empty(0))
