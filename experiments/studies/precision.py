"""Half precision against float32, for both methods."""

from collections.abc import Callable
from typing import Any

import torch

from experiments.studies import study
from interp_lib.bench.metrics import psnr
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models import load_image_model, load_video_model
from interp_lib.models.image_model import ImageModel
from interp_lib.models.video_model import VideoModel
from interp_lib.world import render_pair


@study("image", [{"seed": seed} for seed in range(4)])
def precision(model: ImageModel, *, seed: int) -> list[dict]:
    """DreamMover in half precision: how near its frames come to those of float32, on held-out world pairs.

    128 px, three frames between, otherwise the defaults of `interpolate` on this model. dtype: of the networks;
    latents, flow and fusion are float32 in each. psnr: dB of the frames between against float32's, in the mean; lowest:
    of the worst frame. not_finite: values of the frames and of the latents that are NaN or infinite.
    """
    return compare(model, load_image_model, interpolate, seed, size=128, frames=3)


@study("video", [{"seed": seed} for seed in range(2)])
def precision_video(model: VideoModel, *, seed: int) -> list[dict]:
    """Generative Inbetweening in half precision: how near its frames come to those of float32, on held-out world pairs.

    64 px, 5 steps, the early ones repeated once. dtype: of the networks; the sampler is float32 in each. psnr, lowest,
    not_finite: as in `precision`.
    """
    return compare(model, load_video_model, inbetween, seed, size=64, steps=5, recurrence=1)


def compare(model: Any, load: Callable, method: Callable, seed: int, *, size: int, **options: Any) -> list[dict]:
    """Return a row for each dtype: a run with networks of this dtype, against the same run with those of float32."""
    pair = render_pair(seed, size=size)
    runs = {
        name: method(
            load(model.name, device=model.device, dtype=getattr(torch, name)),
            *(pair.image0, pair.image1),
            progress=False,
            **options,
        )
        for name in ("float32", "float16", "bfloat16")
    }
    exact, rows = runs.pop("float32").frames[1:-1], []
    for name, half in runs.items():
        ratios = psnr(half.frames[1:-1], exact)
        broken = sum(int((~x.isfinite()).sum()) for x in (half.frames, half.latents))
        rows.append({"dtype": name, "psnr": float(ratios.mean()), "lowest": float(ratios.min()), "not_finite": broken})
    return rows
