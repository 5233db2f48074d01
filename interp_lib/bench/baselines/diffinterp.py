"""DiffInterp: mixed latents and text embeddings, denoised from a noise level that both parents share, coarse to fine.

Source: Wang and Golland, Interpolating between Images with Diffusion Models, 2023, section 3, without its pose guidance
and its choice among candidates by CLIP.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, keyframes
from interp_lib.bench.baselines.latents import along_arc
from interp_lib.dreammover.ddim import add_noise, ddim_step, timesteps
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

COARSE, FINE = 0.6, 0.3  # share of the steps at which the first, and the last, generation of frames is mixed
Prompts = tuple[str, str] | None  # of both images; None is the pair's caption for both


@torch.no_grad()
def diffinterp(
    model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50, prompts: Prompts = None
) -> Interpolation:
    """Make the frame at t = 0.5 first, then those in the middle of two that are there.

    For every frame both parents get the *same* noise, at a level that falls from generation to generation; their noisy
    latents are interpolated along an arc, their text embeddings along a line, and DDIM denoises the mix.
    """
    calls, schedule = model.unet_calls, timesteps(model, steps)
    generator = torch.Generator().manual_seed(seed)
    latents: dict[int, Tensor] = dict(zip((0, frames + 1), model.encode(keyframes(pair)).split(1), strict=True))
    words = model.embed_text(list(prompts or (pair.caption, pair.caption)))
    plan = generations(frames)
    for depth, generation in enumerate(plan):
        share = COARSE + (FINE - COARSE) * depth / max(1, len(plan) - 1)
        down = [int(t) for t in schedule[: max(1, round(share * len(schedule)))].flip(0)]
        noise = torch.randn(latents[0].shape, generator=generator).to(latents[0])
        for low, k, high in generation:
            noisy = [add_noise(latents[x], noise, model.alpha_bar(down[0])) for x in (low, high)]
            z = along_arc(*noisy, torch.tensor((k - low) / (high - low)).view(1, 1, 1, 1))
            context = words.lerp(k / (frames + 1))
            for t, below in zip(down, [*down[1:], 0], strict=True):
                predicted = model.predict_noise(z, t, context)
                z = ddim_step(z, predicted, model.alpha_bar(t), model.alpha_bar(below))
            latents[k] = z
    middle = torch.cat([latents[k] for k in range(1, frames + 1)])
    return between_keyframes(pair, model.decode(middle), latents=middle, calls=model.unet_calls - calls)


def generations(frames: int) -> list[list[tuple[int, int, int]]]:
    """Return (parent, child, parent) of every frame 1..frames between 0 and frames+1, one list per generation."""
    gaps, plan = [(0, frames + 1)], []
    while gaps := [(low, high) for low, high in gaps if high - low > 1]:
        plan.append([(low, (low + high) // 2, high) for low, high in gaps])
        gaps = [gap for low, k, high in plan[-1] for gap in ((low, k), (k, high))]
    return plan
