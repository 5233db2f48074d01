"""Interpolated latents: clean ones along a line, or inverted ones along an arc and denoised. Nothing is matched."""

from __future__ import annotations

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, keyframes, times
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair


def lerp(model: ImageModel, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Mix the autoencoder's latents by time and decode them."""
    first, last = model.encode(keyframes(pair)).split(1)
    mix = times(frames).to(first)
    latents = (1 - mix) * first + mix * last
    return between_keyframes(pair, model.decode(latents), latents=latents)


def slerp(
    model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50, inversion_steps: int = 30
) -> Interpolation:
    """Mix along an arc the latents that DDIM inversion reaches at `inversion_steps` of `steps`, and denoise them."""
    calls, options = model.unet_calls, {"steps": steps, "inversion_steps": inversion_steps}
    inversion = invert(model, keyframes(pair), prompt=pair.caption, progress=False, **options)
    start = along_arc(*inversion.latents[-1].split(1), times(frames))
    *_, latents = denoise_between(model, inversion, start, prompt=pair.caption, blocks=())
    return between_keyframes(pair, model.decode(latents), latents=latents, calls=model.unet_calls - calls)


def along_arc(first: Tensor, last: Tensor, mix: Tensor) -> Tensor:
    """Interpolate two tensors, seen as vectors, along an arc: sin((1-d) w)/sin(w) a + sin(d w)/sin(w) b, w their angle.

    Source: Shoemake 1985, for latents Song et al., DDIM, 2021. first, last: [1,C,h,w]; mix: [n,1,1,1] in [0,1].
    Returns [n,C,h,w]; along a line where the angle is nearly 0 or pi.
    """
    a, b = first.double(), last.double()
    cosine = (a.flatten() @ b.flatten()) / (a.norm() * b.norm()).clamp(min=1e-12)
    angle, mix = torch.arccos(cosine.clamp(-1, 1)), mix.to(a)
    if float(cosine.abs()) > 0.9995:
        return ((1 - mix) * a + mix * b).to(first)
    return ((torch.sin((1 - mix) * angle) * a + torch.sin(mix * angle) * b) / torch.sin(angle)).to(first)
