"""Interpolated latents: clean ones along a line, or inverted ones along an arc and denoised. Nothing is matched."""

from __future__ import annotations

import torch
from torch import Tensor

from interp_lib.bench.baselines._keyframes import ends, times, with_ends
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

MODEL = "image"


def make(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    way: str = "lerp",
    steps: int = 50,
    inversion_steps: int = 30,
) -> Interpolation:
    """way: "lerp" mixes the autoencoder's latents, "slerp" those of DDIM inversion at `inversion_steps` of `steps`."""
    calls, mix = model.unet_calls, times(frames)
    if way == "lerp":
        first, last = model.encode(ends(pair)).split(1)
        latents = (1 - mix.to(first)) * first + mix.to(first) * last
    else:
        inversion = invert(
            model, ends(pair), steps=steps, inversion_steps=inversion_steps, prompt=pair.caption, progress=False
        )
        start = slerp(*inversion.latents[-1].split(1), mix)
        *_, latents = denoise_between(model, inversion, start, prompt=pair.caption, blocks=())
    return with_ends(model, pair, latents, calls)


def slerp(first: Tensor, last: Tensor, mix: Tensor) -> Tensor:
    """Between two tensors, seen as vectors, along an arc: sin((1-d) w)/sin(w) a + sin(d w)/sin(w) b, w their angle.

    Source: Shoemake 1985, for latents Song et al., DDIM, 2021. first, last: [1,C,h,w]; mix: [n,1,1,1] in [0,1].
    Returns [n,C,h,w]; along a line where the angle is nearly 0 or pi.
    """
    a, b = first.double(), last.double()
    cosine = (a.flatten() @ b.flatten()) / (a.norm() * b.norm()).clamp(min=1e-12)
    angle, mix = torch.arccos(cosine.clamp(-1, 1)), mix.to(a)
    if float(cosine.abs()) > 0.9995:
        return ((1 - mix) * a + mix * b).to(first)
    return ((torch.sin((1 - mix) * angle) * a + torch.sin(mix * angle) * b) / torch.sin(angle)).to(first)
