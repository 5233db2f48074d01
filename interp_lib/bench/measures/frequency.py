"""High-frequency ratio: how much of the inputs' fine structure the frames between them keep."""

from __future__ import annotations

import torch
from torch import Tensor

from interp_lib.dreammover.spectrum import high_frequency_energy

AREA = 0.25  # the central square has a quarter of the area, half of each side
SIDE = 1 / 16  # it has a quarter of each side


def high_frequency_ratio(frames: Tensor, inputs: Tensor, *, centre: float = AREA) -> Tensor:
    """High-frequency energy of each frame over the mean of the inputs', `[T]`: 1 is kept, less is blur.

    Source: DreamMover, section 3.3 and Fig. 5, "the centre 1/4"; METHODS, section 5.
    frames: `[T,3,H,W]`, inputs: `[K,3,H,W]`, both in [0,1] on one grid. centre: share of the spectrum's area that
    counts as low, `AREA` or `SIDE`. NaN for inputs without high frequencies (flat ones). Raises ValueError for grids
    that differ.
    """
    if frames.shape[1:] != inputs.shape[1:]:
        shapes = f"{tuple(frames.shape)} and {tuple(inputs.shape)}"
        raise ValueError(f"frames and inputs must be of one size, [T,3,H,W] and [K,3,H,W], not {shapes}.")
    kept, whole = (high_frequency_energy(inputs, centre=share).mean() for share in (centre, 0.0))
    flat = kept <= 1e-6 * whole  # of a flat image rounding leaves a few ten-millionths of the whole spectrum
    return torch.where(flat, torch.nan, high_frequency_energy(frames, centre=centre) / kept)
