"""Interpolated latents, nothing matched: clean ones along a line, inverted or noisy ones along an arc and denoised."""

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, halvings, keyframes, times
from interp_lib.dreammover.ddim import add_noise, ddim_step, invert, timesteps
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

COARSE, FINE = 0.6, 0.3  # DiffInterp: share of the steps at which the first, and the last, generation is mixed


def lerp(model: ImageModel, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Mix the autoencoder's latents by time and decode them."""
    first, last = model.encode(keyframes(pair)).split(1)
    mix = times(frames).to(first)
    latents = (1 - mix) * first + mix * last
    return between_keyframes(pair, model.decode(latents), latents=latents)


def slerp(
    model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50, inversion_steps: int | None = None
) -> Interpolation:
    """Mix along an arc the latents that DDIM inversion reaches at `inversion_steps` of `steps`, and denoise them.

    inversion_steps: None is the model's own, as in `interpolate`.
    """
    calls, options = model.unet_calls, {"steps": steps, "inversion_steps": inversion_steps}
    inversion = invert(model, keyframes(pair), prompt=pair.caption, progress=False, **options)
    start = along_arc(*inversion.latents[-1].split(1), times(frames))
    *_, latents = denoise_between(model, inversion, start, prompt=pair.caption, blocks=())
    return between_keyframes(pair, model.decode(latents), latents=latents, calls=model.unet_calls - calls)


@torch.no_grad()
def diffinterp(model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50) -> Interpolation:
    """DiffInterp: make the frame at t = 0.5 first, then those in the middle of two that are there.

    For every frame both parents get the *same* noise, at a level that falls from generation to generation; their noisy
    latents are mixed along an arc, and DDIM denoises the mix, with the pair's caption.
    Source: Wang and Golland, Interpolating between Images with Diffusion Models, 2023, section 3, without its pose
    guidance and its choice among candidates by CLIP.
    """
    calls, schedule, plan = model.unet_calls, timesteps(model, steps), halvings(frames)
    generator, context = torch.Generator().manual_seed(seed), model.embed_text(pair.caption)
    latents: dict[int, Tensor] = dict(zip((0, frames + 1), model.encode(keyframes(pair)).split(1), strict=True))
    for depth, generation in enumerate(plan):
        share = COARSE + (FINE - COARSE) * depth / max(1, len(plan) - 1)
        down = [int(t) for t in schedule[: max(1, round(share * len(schedule)))].flip(0)]
        noise = torch.randn(latents[0].shape, generator=generator).to(latents[0])
        for low, k, high in generation:
            noisy = [add_noise(latents[x], noise, model.alpha_bar(down[0])) for x in (low, high)]
            z = along_arc(*noisy, torch.tensor((k - low) / (high - low)).view(1, 1, 1, 1))
            for t, below in zip(down, [*down[1:], 0], strict=True):
                z = ddim_step(z, model.predict_noise(z, t, context), model.alpha_bar(t), model.alpha_bar(below))
            latents[k] = z
    middle = torch.cat([latents[k] for k in range(1, frames + 1)])
    return between_keyframes(pair, model.decode(middle), latents=middle, calls=model.unet_calls - calls)


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
