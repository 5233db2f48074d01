"""DreamMover in half precision: how near its frames come to those of float32, on held-out world pairs.

128 px, three frames between, otherwise the defaults of `interpolate` on this model. dtype: of the networks; latents,
flow and fusion are float32 in each. psnr: dB of the frames between against float32's, in the mean; lowest: of the worst
frame. not_finite: values of the frames and of the latents that are NaN or infinite.
"""

from collections.abc import Callable
from typing import Any

import torch

from interp_lib.bench.metrics import psnr
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.models import load_image_model
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation
from interp_lib.world import render_pair

VERSION = 1
MODEL = "image"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
ITEMS = [{"seed": seed} for seed in range(4)]


def measure(model: ImageModel, *, seed: int) -> list[dict[str, Any]]:
    pair = render_pair(seed, size=128)

    def run(model: ImageModel) -> Interpolation:
        return interpolate(model, pair.image0, pair.image1, frames=3, progress=False)

    return compare(run, load_image_model, model)


def compare(run: Callable[[Any], Interpolation], load: Callable[..., Any], model: Any) -> list[dict[str, Any]]:
    """Return a row for each dtype: a run with networks of this dtype, against the same run with those of float32."""
    exact = run(load(model.name, device=model.device, dtype=torch.float32)).frames[1:-1]
    rows = []
    for name, dtype in DTYPES.items():
        half = run(load(model.name, device=model.device, dtype=dtype))
        ratios = psnr(half.frames[1:-1], exact)
        broken = sum(int((~x.isfinite()).sum()) for x in (half.frames, half.latents))
        rows.append({"dtype": name, "psnr": float(ratios.mean()), "lowest": float(ratios.min()), "not_finite": broken})
    return rows
