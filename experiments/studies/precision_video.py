"""Generative Inbetweening in half precision: how near its frames come to those of float32, on held-out clips.

Method "dual" on single-object clips of 14 frames, 6 steps, each of the first half repeated once. dtype: of the
networks; the sampler is float32 in each. psnr, lowest, not_finite: as in `experiments.studies.precision`.
"""

from __future__ import annotations

from typing import Any

from experiments.studies.precision import compare
from interp_lib.bench.motion import world_clips
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models import load_video_model
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation

VERSION = 1
MODEL = "video"
ITEMS = [{"seed": seed} for seed in range(2)]


def measure(model: VideoModel, *, seed: int) -> list[dict[str, Any]]:
    frames = world_clips(1, frames=14, first=seed)[0].frames

    def run(model: VideoModel) -> Interpolation:
        keyframes = frames[:1], frames[-1:]
        return inbetween(model, *keyframes, frames=len(frames), steps=6, recurrence=1, seed=seed, progress=False)

    return compare(run, load_video_model, model)
