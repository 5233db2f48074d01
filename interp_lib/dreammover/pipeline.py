"""`interpolate`: DreamMover whole, from the keyframes to the frames between them (paper section 3, Fig. 2).

It reads from top to bottom: `interpolate`, `make_frames` (LoRA, inversion, flow, a film of every two neighbours),
`denoise_frames` (fusion at T, then steps down to the clean latents), and the small helpers of each.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import Inversion, add_noise, plan_levels, predict_clean, run_inversion
from interp_lib.dreammover.features import diffusion_features
from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.dreammover.inputs import (
    LORA,
    Settings,
    choose_lora,
    note_choices,
    pair_lora,
    prepare_flow,
    prepare_images,
)
from interp_lib.dreammover.lora import Lora, scaled_lora
from interp_lib.dreammover.sampler import Network, between, descend
from interp_lib.memory import memory_advice
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image

# The quick setting, as keyword arguments: 30 U-Net calls for the 91 of 50 DDIM steps at the paper's T.
QUICK = {"solver": "dpmsolver++", "steps": 7}


MEMORY_ADVICE = "use smaller images, a smaller batch_size, or load the model with offload=True or in float16"


@dataclass
class FrameState:
    """Where the frames are: latents [n+2,C,h,w] (image 0, n middle frames, image 1) at a timestep.

    timestep: of the latents, the last of a run being 0. fused_clean: [n,C,h,w], the high level of Eq. 7, None when
    the fusion was direct.
    """

    timestep: int
    latents: Tensor
    fused_clean: Tensor | None


@memory_advice(MEMORY_ADVICE)
def interpolate(
    model: ImageModel,
    image0: Tensor | Image,
    image1: Tensor | Image,
    *,
    frames: int = 32,
    preset: str = "paper",
    two_level: bool = True,
    attention: bool = True,
    lora: bool | Lora | str | os.PathLike | None = None,
    flow: str | tuple[Tensor, Tensor] = "diffusion",
    steps: int = 50,
    inversion_steps: int | None = None,
    batch_size: int | None = None,
    seed: int | torch.Generator = 0,
    prompt: str = "",
    endpoints: str = "input",
    solver: str = "ddim",
    progress: bool = True,
) -> Interpolation:
    """Make the `frames` images between image0 and image1, at times i/(frames+1); frames+2 with both ends come back.

    Source: section 3 and 4.1; the switches two_level, attention, lora and flow are the ablations of Table 3.
    image0, image1: one image each; a second one of another size is fitted to the first, sides that are no multiples of
    the model's are cut, PIL images are reduced to the model's own area: all of it is noted.
    preset: "paper" or "released" (what the released code does). lora: fit one (True), use none (False), or one that
    was fitted before, a handle of this model or a path. flow: "diffusion", "classical" (block matching), "zero", or
    two tensors (flow01, flow10) [1,2,h,w] in latent pixels or [1,2,H,W] in image pixels, such as those of
    `estimate_flow` on other features. steps: of the schedule; inversion_steps: T, where the fusion takes place.
    lora and inversion_steps: None is the recommendation of the model's settings.json, else the paper's (True, and 30
    of 50); the notes say what was chosen. batch_size: middle frames per U-Net call (None: all); it changes memory, not
    frames. seed: of the LoRA fit; the rest draws nothing. endpoints: "input" puts the images themselves at both ends,
    "reconstructed" what the model makes of them. solver: "ddim", the paper's, or "dpmsolver++", of second order, which
    needs fewer `steps` down (see `plan_levels`); `interpolate(..., **QUICK)` is the setting to take with it.
    U-Net calls: T + 1 + T * (1 + ceil(frames/batch_size)), plus one for every step by which the features (14 of 50)
    lie beyond T, plus ceil(frames/batch_size) for "released"; without the diffusion flow its calls (1 and these) fall
    away. With "dpmsolver++" the inversion's T is that of `plan_levels`.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    choices = (frames, preset, two_level, attention, lora, flow, steps, inversion_steps, batch_size, seed, prompt)
    return make_frames(model, (image0, image1), Settings(*choices, endpoints, solver, progress))


def make_frames(
    model: ImageModel, images: Tensor | Sequence[Tensor | Image], settings: Settings, *, loop: bool = False
) -> Interpolation:
    """Make the film through any number of keyframes: `interpolate` is the case of two.

    loop: the last keyframe is followed by the first, and the film ends with the frame before it.
    """
    frames, preset, progress = settings.frames, settings.preset, settings.progress
    plan = plan_levels(model, settings.steps, settings.inversion_steps, settings.solver)
    lora = choose_lora(model, settings.lora)
    keyframes, notes = prepare_images(model, images)
    count = len(keyframes)
    pairs = [(k, (k + 1) % count) for k in range(count if loop else count - 1)]
    if loop and torch.equal(keyframes[-1], keyframes[0]):
        raise ValueError(f"image{count - 1} and image0 are identical: leave the last out, a loop returns by itself.")
    given = prepare_flow(model, settings.flow, keyframes, len(pairs), notes)
    notes += note_choices(model, settings, len(plan.down), lora, keyframes)
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)
    batch_size = settings.batch_size or frames
    at_once = count if settings.batch_size is None else max(2, batch_size)  # keyframes
    with model.lock:
        calls = model.unet_calls
        context = model.embed_text(settings.prompt)
        with pair_lora(model, lora, keyframes, preset, settings.prompt, settings.seed, progress) as adapter:
            with scaled_lora(adapter, 1.0):
                z = model.encode(keyframes)
                inversion = run_inversion(model, z, context, plan, batch_size=at_once, progress=progress)
                flow01, flow10 = given or _find_flow(model, settings, keyframes, inversion, pairs, at_once)
            with scaled_lora(adapter, LORA[preset].strength):
                net = Network(model, context, batch_size, settings.attention, preset)
                films = []
                for k, pair in enumerate(pairs):
                    flows = flow01[k : k + 1], flow10[k : k + 1]
                    states = denoise_frames(net, inversion.select(pair), *flows, deltas, two_level=settings.two_level)
                    bar = tqdm(states, total=len(plan.down) + 1, desc="denoising", disable=not progress)
                    films.append(deque(bar, maxlen=1).pop())  # the last state; no other stays in memory
            notes += [] if adapter is None else adapter.notes
        latents = torch.cat([films[0].latents[:1], *(film.latents[1:] for film in films)])  # no keyframe twice
        latents = latents[:-1] if loop else latents
        pictures = _decode(model, latents, keyframes, frames + 1, settings.endpoints, progress)
        calls = model.unet_calls - calls
    fused = torch.cat([film.fused_clean for film in films]) if settings.two_level else None
    return Interpolation(pictures, latents, flow01, flow10, fused, calls, notes)


# Eq. 6-8 for the start, Eq. 2 for the steps, Eq. 9 and 10 inside the network
@torch.no_grad()
def denoise_frames(
    net: Network, inversion: Inversion, flow01: Tensor, flow10: Tensor, deltas: Tensor, *, two_level: bool = True
) -> Iterator[FrameState]:
    """Fuse the inverted pair at times `deltas` [n] and denoise; yield the start, then the state after every step.

    net: the network, with the preset, the attention and the batch size of this run. inversion: of both images, in this
    order; its own clean and noise are used by "released" only, which evaluates its first step twice, the second time on
    the fused clean latents re-noised with the first prediction. flow01, flow10: [1,2,h,w] in latent pixels.
    U-Net calls: per step one of the endpoints and ceil(n/batch_size) of middle frames, once more the latter in
    `released`'s first step. "paper" takes eps(z_T, T) from the first endpoints call. The model can be used between two
    steps: the replacement is off whenever a state is handed out.
    """
    model, preset = net.model, net.preset
    (t, below), *levels = inversion.levels()
    a, ends = inversion.alpha_bar, inversion.latents[-1]
    with net.replacing():
        eps_ends = net.endpoints(ends, t)
        clean, noise = inversion.clean, inversion.noise
        if preset == "paper":
            clean, noise = predict_clean(ends, eps_ends, a), eps_ends
        batches = [
            _fuse(ends, clean, noise, (flow01, flow10), delta, a, preset, two_level)
            for delta in deltas.split(net.batch_size)
        ]
        z, fused = (torch.cat(x) if x[0] is not None else None for x in zip(*batches, strict=True))
        start = between(ends, z)
        if preset == "released" and two_level:  # (otherwise an ordinary step)
            clean = between(clean, fused)
            noise = between(eps_ends, net.middle(add_noise(fused, net.middle(z, t), a), t))
        else:
            noise = between(eps_ends, net.middle(z, t))
            clean = predict_clean(start, noise, a)
    yield FrameState(t, start, fused)
    first = add_noise(clean, noise, model.alpha_bar(below))
    yield FrameState(below, first, fused)
    for t, z in descend(model, net.all, first, levels, inversion.solver, (clean, a)):
        yield FrameState(t, z, fused)


def _fuse(
    z: Tensor, clean: Tensor, noise: Tensor, flows: Any, delta: Tensor, alpha_bar: float, preset: str, two_level: bool
) -> tuple[Tensor, Tensor | None]:
    """Return z_T of the middle frames at times `delta` and their fused clean latents, None for direct fusion."""
    if not two_level:
        return fuse_direct(z[:1], z[1:], *flows, delta, preset=preset), None
    pair = (clean[:1], clean[1:], noise[:1], noise[1:])
    return fuse_two_level(*pair, *flows, delta, alpha_bar, preset=preset)[:2]


def _find_flow(
    model: ImageModel,
    settings: Settings,
    keyframes: Tensor,
    inversion: Inversion,
    pairs: Sequence[tuple[int, int]],
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10) [pairs,2,h,w] in latent pixels; the features of every keyframe are computed once."""
    z = inversion.latents[0]
    if settings.flow == "zero":
        zero = z.new_zeros(len(pairs), 2, *z.shape[-2:])
        return zero, zero.clone()
    if settings.flow == "classical":
        images = keyframes.to(z.device).split(1)
        ways = [block_flow(images[i], images[j], factor=model.vae_factor) for p in pairs for i, j in (p, p[::-1])]
    else:
        options = {"steps": inversion.steps, "prompt": settings.prompt, "progress": False}
        parts = [inversion.select(part.tolist()) for part in torch.arange(len(z)).split(batch_size)]
        features = [f for p in parts for f in diffusion_features(model, None, inversion=p, **options).split(1)]
        size = tuple(z.shape[-2:])
        ways = [match_features(features[i], features[j], size=size) for p in pairs for i, j in (p, p[::-1])]
    return torch.cat(ways[::2]), torch.cat(ways[1::2])


def _decode(model: ImageModel, latents: Tensor, keyframes: Tensor, gap: int, endpoints: str, progress: bool) -> Tensor:
    """Return the frames, on the images' device, which is the only place that holds them all; a keyframe every `gap`."""
    frames = torch.empty(len(latents), *keyframes.shape[1:], device=keyframes.device)
    if endpoints == "reconstructed":
        return model.decode(latents, out=frames, progress=progress)
    frames[::gap] = keyframes
    for k in range(1, len(frames), gap):
        model.decode(latents[k : k + gap - 1], out=frames[k : k + gap - 1], progress=progress)
    return frames
