"""SVD's EDM Euler sampler and the ways in which two directions of time meet in it (paper section 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp_lib.inbetweening.temporal import two_directions
from interp_lib.models.video_model import VideoModel

SWEEPS = ("dual", "no-rotation", "no-finetune", "trf", "forward")  # one U-Net call a step
DELTAS = {"dual": "reverse", "no-rotation": "no_rotation"}  # method -> attribute of the model that holds its deltas
METHODS = (*SWEEPS, "vibid", "vibid-plain")


@dataclass(frozen=True)
class Keyframe:
    """What the U-Net is told of one keyframe: image latent [1,C,h,w], embedding [1,1,D], and of the clip, micro
    [1,3]."""

    latent: Tensor
    context: Tensor
    micro: Tensor


@dataclass
class Step:
    """State after one U-Net step. index: which sigma, from 0. repeat: 0, then 1.. while it is repeated.

    sigma: the level it came from. latents [1,N,C,h,w] after the step. denoised: the fused prediction of the clean
    latents. forward, backward: each direction's own (backward in forward time), None where there is none.
    """

    index: int
    repeat: int
    sigma: float
    latents: Tensor
    denoised: Tensor
    forward: Tensor | None = None
    backward: Tensor | None = None


@dataclass(frozen=True)
class Schedule:
    """sigmas [steps+1], the last one 0; timesteps [steps] = log(sigma) / 4; the first latents have std `start`."""

    sigmas: Tensor
    timesteps: Tensor
    start: float


def schedule(model: VideoModel, steps: int) -> Schedule:
    """Karras sigmas as SVD's folder configures them; the model's own scheduler is not touched."""
    scheduler = type(model.scheduler).from_config(model.scheduler.config)
    scheduler.set_timesteps(steps)
    return Schedule(scheduler.sigmas.float(), scheduler.timesteps.float(), float(scheduler.init_noise_sigma))


def denoised(x: Tensor, v: Tensor, sigma: Tensor | float) -> Tensor:
    """z_{t->0} = x / (s^2 + 1) - v s / sqrt(s^2 + 1): the clean latents that a v-prediction stands for."""
    return x / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5


def v_target(clean: Tensor, noisy: Tensor, sigma: Tensor | float) -> Tensor:
    """The v whose `denoised` is `clean`; its unweighted error is the x0 error weighted by (1+s^2)/s^2 (Alg. 1)."""
    return (noisy / (sigma**2 + 1) - clean) * (sigma**2 + 1) ** 0.5 / sigma


def euler(x: Tensor, clean: Tensor, sigma: float, below: float) -> Tensor:
    """One Euler step from sigma to `below` along (x - clean) / sigma."""
    return x + (x - clean) / sigma * (below - sigma)


def unet_calls(method: str, steps: int, recurrence: int) -> int:
    """steps + recurrence * int(steps/2), the forward model alone once a step, ViBiD twice a step without recurrence."""
    if method.startswith("vibid"):
        return 2 * steps
    return steps + (0 if method == "forward" else recurrence * int(steps / 2))


def guided(model: VideoModel, latents: list[Tensor], keys: list[Keyframe], sigma: float, timestep: Tensor) -> Any:
    """[(v without the image, v with it)] of each direction, [1,N,C,h,w] each: one U-Net call for all of them.

    The batch is (without, with) of the first direction, then of the second; without = zeros for embedding and latent.
    """
    inputs, contexts = [], []
    for z, key in zip(latents, keys, strict=True):
        scaled = z / (sigma**2 + 1) ** 0.5
        image = key.latent[:, None].expand(-1, z.shape[1], -1, -1, -1)
        inputs += [torch.cat([scaled, torch.zeros_like(image)], 2), torch.cat([scaled, image], 2)]
        contexts += [torch.zeros_like(key.context), key.context]
    micro = torch.cat([key.micro for key in keys for _ in range(2)])
    v = model.predict_v(torch.cat(inputs), timestep, torch.cat(contexts), micro, branches=2).split(1)
    return list(zip(v[::2], v[1::2], strict=True))


def ramps(guidance_scale: tuple[float, float], frames: int, *, constant: bool) -> Tensor:
    """Guidance per frame [1,N,1,1,1], rising away from the keyframe; constant: averaged with its flip (released)."""
    ramp = torch.linspace(*guidance_scale, frames)
    return ((ramp + ramp.flip(0)) / 2 if constant else ramp).view(1, -1, 1, 1, 1)


def forward_weights(fuse: str | float | Tensor, frames: int) -> Tensor:
    """How much the forward direction counts in each frame [1,N,1,1,1]: 1/2, or from 1 to 0, or as given."""
    if isinstance(fuse, str):
        values = torch.linspace(1, 0, frames) if fuse == "linear" else torch.full((frames,), 0.5)
    else:
        values = torch.as_tensor(fuse, dtype=torch.float32).expand(frames)
    return values.view(1, -1, 1, 1, 1)


def sweep(
    model: VideoModel,
    start: Tensor,
    keys: list[Keyframe],
    plan: Schedule,
    *,
    method: str,
    recurrence: int,
    guidance_scale: Tensor,
    weights: Tensor,
    rotate: Any,
    generator: torch.Generator,
) -> Iterator[Step]:
    """Alg. 2 and its relatives: every step one call of the U-Net; yields the state after each.

    start: [1,N,C,h,w] at the first sigma. keys: the first keyframe, and the last one unless method is "forward".
    The early half of the steps is repeated `recurrence` times from noise put back by sqrt(s_i^2 - s_{i+1}^2).
    """
    z, steps = start, len(plan.timesteps)
    guidance_scale, weights = guidance_scale.to(z), weights.to(z)
    early = 0 if method == "forward" else int(steps / 2)
    deltas = getattr(model, DELTAS[method]) if method in DELTAS else None
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for repeat in range(1 + recurrence * (i < early)):
            if repeat:
                z = z + (sigma**2 - below**2) ** 0.5 * noise_like(z, generator)
            with directions(model, method, rotate, deltas):
                pairs = guided(model, [z, z.flip(1)][: len(keys)], keys, sigma, timestep)
            v = [without + guidance_scale * (image - without) for without, image in pairs]
            ways = [denoised(z, v[0], sigma)]
            if len(v) == 2:
                ways.append(denoised(z, v[1].flip(1), sigma))
                clean = weights * ways[0] + (1 - weights) * ways[1]
            else:
                clean = ways[0]
            z = euler(z, clean, sigma, below)
            yield Step(i, repeat, sigma, z, clean, ways[0], ways[1] if len(ways) == 2 else None)


def vibid(
    model: VideoModel,
    start: Tensor,
    keys: list[Keyframe],
    plan: Schedule,
    *,
    plain: bool,
    guidance_scale: Tensor,
    generator: torch.Generator,
) -> Iterator[Step]:
    """ViBiDSampler: down a level on the first keyframe, noise back, flip, down on the last one, flip back.

    plain: ordinary guidance. Otherwise CFG++ at its full scale (the clean prediction of the conditional branch, the
    noise of the unconditional one) and the far keyframe's latent put in the place of the clean prediction there.
    """
    z, scale = start, model.vae.config.scaling_factor
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for turn, key in enumerate(keys):
            if turn:
                z = (z + (sigma**2 - below**2) ** 0.5 * noise_like(z, generator)).flip(1)
            ((without, image),) = guided(model, [z], [key], sigma, timestep)
            if plain:
                clean = denoised(z, without + guidance_scale.to(z) * (image - without), sigma)
                z = euler(z, clean, sigma, below)
            else:
                clean = denoised(z, image, sigma)
                clean[:, -1] = keys[1 - turn].latent * scale
                z = clean + below * (z - denoised(z, without, sigma)) / sigma
            z, clean = (z.flip(1), clean.flip(1)) if turn else (z, clean)
            yield Step(i, turn, sigma, z, clean)


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Unit noise from the generator's own device, so that a seed means the same everywhere."""
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)


def directions(model: VideoModel, method: str, rotate: Any, deltas: Any) -> Any:
    if method in ("trf", "forward"):
        return nullcontext()
    return two_directions(model.unet, rotate=rotate, deltas=deltas)
