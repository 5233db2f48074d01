"""DreamMover, and by its switches every row of its ablation (Table 3)."""

from __future__ import annotations

from typing import Any

from interp_lib.bench.baselines._keyframes import at_size
from interp_lib.dreammover.features import feature_block
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

MODEL = "image"


def make(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    until: int = 30,
    preset: str = "paper",
    chunk: int | None = None,
    **switches: Any,
) -> Interpolation:
    """`interpolate`, with features from the block that is fine enough for the size (see `feature_block`)."""
    how = {"steps": steps, "until": until, "seed": seed, "progress": False}
    how |= {"preset": preset, "chunk": chunk, "prompt": pair.caption, **switches}
    block = feature_block(model, min(pair.image0.shape[-2:]))
    return at_size(interpolate(model, pair.image0, pair.image1, frames=frames, feature_block=block, **how), pair)
