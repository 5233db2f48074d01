"""Generative Inbetweening in half precision: how near its frames come to those of float32, on held-out world pairs.

64 px, 5 steps, the early ones repeated once. dtype: of the networks; the sampler is float32 in each. psnr, lowest,
not_finite: as in `experiments.studies.precision`.
"""

from typing import Any

from experiments.studies.precision import compare
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models import load_video_model
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation
from interp_lib.world import render_pair

VERSION = 1
MODEL = "video"
ITEMS = [{"seed": seed} for seed in range(2)]


def measure(model: VideoModel, *, seed: int) -> list[dict[str, Any]]:
    pair = render_pair(seed, size=64)

    def run(model: VideoModel) -> Interpolation:
        return inbetween(model, pair.image0, pair.image1, steps=5, recurrence=1, progress=False)

    return compare(run, load_video_model, model)
