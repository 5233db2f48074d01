"""Generative Inbetweening, its ablations, and its relatives on the same video model (TRF, ViBiDSampler)."""

from __future__ import annotations

from interp_lib.bench.baselines._keyframes import at_size
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation, Pair

MODEL = "video"


def make(
    model: VideoModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    method: str = "dual",
    steps: int = 50,
    recurrence: int = 5,
) -> Interpolation:
    """`inbetween`; the ends are what the model makes of the keyframes, as in the paper's videos."""
    how = {"method": method, "steps": steps, "recurrence": recurrence, "seed": seed, "progress": False}
    return at_size(inbetween(model, pair.image0, pair.image1, frames=frames + 2, **how), pair)
