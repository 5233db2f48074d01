"""`interpolate`: DreamMover whole, from two images to the frames between them (paper section 3, Fig. 2).

It reads from top to bottom: `interpolate` (LoRA, inversion, flow), `denoise_frames` (fusion at T, then steps down to
the clean latents), and the small helpers of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_callable, check_choice, check_int, check_switch
from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import (
    PRESETS,
    Inversion,
    add_noise,
    choose_inversion_steps,
    ddim_step,
    predict_clean,
    run_inversion,
    timesteps,
)
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.dreammover.inputs import LORA, choose_lora, note_choices, pair_lora, prepare_flow, prepare_images
from interp_lib.dreammover.lora import Lora, check_seed, scaled_lora
from interp_lib.dreammover.sampler import Network
from interp_lib.memory import memory_advice
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class FrameState:
    """Where the frames are: latents [n+2,C,h,w] (image 0, n middle frames, image 1) at a timestep.

    timestep: of the latents, the last of a run being 0. fused_clean: [n,C,h,w], the high level of Eq. 7, None when
    the fusion was direct.
    """

    timestep: int
    latents: Tensor
    fused_clean: Tensor | None


@memory_advice("use smaller images, a smaller batch_size, or load the model with offload=True or in float16")
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
    on_step: Callable[[FrameState], None] | None = None,
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
    "reconstructed" what the model makes of them. on_step: called with every state of `denoise_frames`.
    U-Net calls: T + 1 + T * (1 + ceil(frames/batch_size)), plus one for every step by which the features (14 of 50)
    lie beyond T, plus ceil(frames/batch_size) for "released"; without the diffusion flow its calls (1 and these) fall
    away. Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    schedule = timesteps(model, steps)
    depth = choose_inversion_steps(model, inversion_steps, len(schedule))
    frames = check_int("frames", frames, 1)
    batch_size = frames if batch_size is None else check_int("batch_size", batch_size, 1)
    check_choice("preset", preset, PRESETS)
    check_choice("endpoints", endpoints, ("input", "reconstructed"))
    check_switch("two_level", two_level)
    check_switch("attention", attention)
    check_callable("on_step", on_step)
    check_seed(seed)
    if not isinstance(prompt, str):
        raise ValueError(f"prompt is a {type(prompt).__name__}: give one string for both images, '' for none.")
    chosen_lora = choose_lora(model, lora)
    images, notes = prepare_images(model, image0, image1)
    given = prepare_flow(model, flow, images, notes)
    chosen = (depth if inversion_steps is None else None, chosen_lora if lora is None else None)
    notes += note_choices(model, images, *chosen, flow)
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)
    with model.lock:
        calls = model.unet_calls
        context = model.embed_text(prompt)
        with pair_lora(model, chosen_lora, images, preset, prompt, seed, progress) as adapter:
            with scaled_lora(adapter, 1.0):
                z = model.encode(images)
                inversion = run_inversion(model, z, context, schedule[:depth], steps=len(schedule), progress=progress)
                flow01, flow10 = given or _find_flow(model, flow, images, inversion, prompt)
            with scaled_lora(adapter, LORA[preset].strength):
                net = Network(model, context, batch_size, attention, preset)
                states = denoise_frames(net, inversion, flow01, flow10, deltas, two_level=two_level)
                for state in tqdm(states, total=depth + 1, desc="denoising", disable=not progress):
                    if on_step is not None:
                        on_step(state)
            notes += [] if adapter is None else adapter.notes
        pictures = _decode(model, state.latents, images, endpoints, progress)
        calls = model.unet_calls - calls
    return Interpolation(pictures, state.latents, flow01, flow10, state.fused_clean, calls, notes)


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
    `released`'s first step. "paper" takes eps(z_T, T) from the first endpoints call.
    """
    model, preset = net.model, net.preset
    (t, below), *levels = pairwise([*inversion.timesteps.flip(0).tolist(), 0])
    a, a_below = inversion.alpha_bar, model.alpha_bar(below)
    ends = inversion.latents[-1]
    # The replacement is off whenever a state is handed out, so that the model can be used between two steps.
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
        start = _joined(ends, z)
        if preset == "released" and two_level:  # (otherwise, ends and middle frames alike, an ordinary step)
            z = add_noise(fused, net.middle(z, t), a)
            z = add_noise(fused, net.middle(z, t), a_below)
            ends = add_noise(clean, eps_ends, a_below)
        else:
            z = ddim_step(z, net.middle(z, t), a, a_below)
            ends = ddim_step(ends, eps_ends, a, a_below)
    yield FrameState(t, start, fused)
    yield FrameState(below, _joined(ends, z), fused)
    for t, below in levels:
        ends, z = net.step(ends, z, t, below)
        yield FrameState(below, _joined(ends, z), fused)


def _fuse(
    z: Tensor, clean: Tensor, noise: Tensor, flows: Any, delta: Tensor, alpha_bar: float, preset: str, two_level: bool
) -> tuple[Tensor, Tensor | None]:
    """Return z_T of the middle frames at times `delta` and their fused clean latents, None for direct fusion."""
    if not two_level:
        return fuse_direct(z[:1], z[1:], *flows, delta, preset=preset), None
    pair = (clean[:1], clean[1:], noise[:1], noise[1:])
    return fuse_two_level(*pair, *flows, delta, alpha_bar, preset=preset)[:2]


def _joined(ends: Tensor, middle: Tensor) -> Tensor:
    return torch.cat([ends[:1], middle, ends[1:]])


def _find_flow(
    model: ImageModel, flow: str, images: Tensor, inversion: Inversion, prompt: str
) -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10) [1,2,h,w] in latent pixels, found in the way that has this name."""
    z = inversion.latents[0]
    if flow == "zero":
        zero = z.new_zeros(1, 2, *z.shape[-2:])
        return zero, zero.clone()
    if flow == "classical":
        a, b = images[:1].to(z.device), images[1:].to(z.device)
        return block_flow(a, b, factor=model.vae_factor), block_flow(b, a, factor=model.vae_factor)
    return estimate_flow(model, inversion, prompt=prompt)


def _decode(model: ImageModel, latents: Tensor, images: Tensor, endpoints: str, progress: bool) -> Tensor:
    """Return the frames, on the images' device, which is the only place that holds them all."""
    frames = torch.empty(len(latents), *images.shape[1:], device=images.device)
    if endpoints == "reconstructed":
        return model.decode(latents, out=frames, progress=progress)
    frames[0], frames[-1] = images
    model.decode(latents[1:-1], out=frames[1:-1], progress=progress)
    return frames
