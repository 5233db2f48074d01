"""`inbetween`: Generative Inbetweening from two keyframes to a video (paper section 4, Fig. 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp_lib.checks import check_callable, check_choice
from interp_lib.images import prepare_pair
from interp_lib.inbetweening.prepare import (
    DELTAS,
    OnStep,
    check_conditioning,
    check_deltas,
    check_rotation,
    check_weights,
    condition_keyframe,
    finish,
    frame_count,
    make_generator,
    recommended,
    run,
    starting_noise,
)
from interp_lib.inbetweening.sampling import (
    Keyframe,
    Schedule,
    Step,
    denoised,
    euler,
    guided,
    noise_like,
    ramps,
    renoise,
    schedule,
    unet_calls,
)
from interp_lib.inbetweening.temporal import two_directions
from interp_lib.memory import memory_advice
from interp_lib.models.video_model import VideoModel, check_video_model
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image

METHODS = ("dual", "no-rotation", "no-finetune", "trf", "forward", "vibid", "vibid-plain")
PRESETS = ("paper", "released")


@memory_advice("use fewer frames or a smaller size, or load the model with offload=True or in float16")
def inbetween(
    model: VideoModel,
    frame0: Tensor | Image,
    frame1: Tensor | Image,
    *,
    frames: int | None = None,
    method: str = "dual",
    preset: str = "paper",
    steps: int | None = None,
    recurrence: int | None = None,
    guidance_scale: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_aug_strength: float = 0.02,
    fps: float = 7,
    motion_bucket_id: float = 127,
    fuse: str | float | Tensor = "average",
    rotate: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
) -> Interpolation:
    """Make a video of `frames` frames in all that starts at frame0 and ends at frame1.

    Source: section 4.3, Alg. 2; the other methods are its ablations (5.3) and two relatives (METHODS, section 3).

    frame0, frame1: one image each; what `prepare_pair` does to their size is noted. size: px, int = square, or (h, w).
    frames: None is the number that the model was made for.
    method: "dual" (needs backward-motion deltas, as does "no-rotation"), "no-finetune" (rotation in the up-blocks, the
        model's own weights), "trf", "vibid", "vibid-plain", or "forward" (the first keyframe alone).
    preset: "paper": each direction has its own guidance ramp away from its keyframe. "released": the ramp averaged with
        its flip, unless fuse is "linear"; and the video is always decoded whole.
    steps, recurrence: how often each step of the first half is repeated. None is the model's own recommendation, else
        the paper's 50 and 5; what was chosen is in `.notes`.
    guidance_scale: at the keyframe and at the far end.
    latents: unit noise [1,frames,C,h,w] in place of a draw from `seed`.
    noise_aug_strength, fps, motion_bucket_id: SVD's micro-conditioning.
    fuse: "average", "linear" (the forward direction's weight falls from 1 to 0; always so for "trf"), or that weight
        itself, a number or [frames].
    rotate: blocks whose maps rotate, such as "up_blocks" or ["mid_block", "up_blocks.1"]; None is by method.
    on_step: called with every `Step`.

    Returns frames and latents [1,frames,C,h,w] as the model makes them, keyframes included.
    U-Net calls: steps + recurrence * int(steps/2), two directions in one call; "forward" steps, "vibid" 2 * steps.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    check_video_model(model)
    check_choice("method", method, METHODS)
    check_choice("preset", preset, PRESETS)
    check_callable("on_step", on_step)
    frames, notes = frame_count(model, frames), []
    steps = recommended(model, "steps", steps, low=1, high=1000, notes=notes)
    recurrence = recommended(model, "recurrence", recurrence, low=0, notes=notes if method in METHODS[:4] else [])
    check_conditioning(guidance_scale, noise_aug_strength, fps, motion_bucket_id)
    weights = check_weights("linear" if method == "trf" else fuse, frames)
    check_deltas(model, method)
    rotate = check_rotation(model, method, rotate)
    generator = make_generator(seed)
    (first, last), adapted = prepare_pair(
        (frame0, frame1),
        size=size,
        native_size=model.native_size,
        multiple=model.multiple,
        names=("frame0", "frame1"),
    )
    notes = adapted + notes
    start = starting_noise(model, latents, frames, first, generator)
    if method == "vibid-plain":
        notes.append("vibid-plain: without CFG++ and without the projection onto the keyframes")

    with model.lock:  # a second thread on the same model waits here: networks and processors are changed below
        calls, plan = model.unet_calls, schedule(model, steps)
        # both keyframes get the same noise (METHODS, section 3)
        noise, conditioning = noise_like(first, generator), (fps, motion_bucket_id, noise_aug_strength)
        images = (first,) if method == "forward" else (first, last)
        keys = [condition_keyframe(model, image, noise, conditioning) for image in images]
        linear = isinstance(fuse, str) and fuse == "linear"
        constant = preset == "released" and not linear and method in ("dual", "no-rotation", "no-finetune")
        ramp = ramps(guidance_scale, frames, constant=constant)
        if method.startswith("vibid"):
            plain = method == "vibid-plain"
            states = denoise_alternating(
                model, start * plan.start, keys, plan, plain=plain, guidance_scale=ramp, generator=generator
            )
        else:
            states = denoise_together(
                model,
                start * plan.start,
                keys,
                plan,
                method=method,
                recurrence=recurrence,
                guidance_scale=ramp,
                weights=weights,
                rotate=rotate,
                generator=generator,
            )
        state = run(states, unet_calls(method, steps, recurrence), on_step, progress, method)
        return finish(model, state.latents, calls, notes, first, progress, whole=preset == "released")


def denoise_together(
    model: VideoModel,
    start: Tensor,
    keys: list[Keyframe],
    plan: Schedule,
    *,
    method: str,
    recurrence: int,
    guidance_scale: Tensor,
    weights: Tensor,
    rotate: tuple[str, ...] | None,
    generator: torch.Generator,
) -> Iterator[Step]:
    """Run Alg. 2 and its relatives, one U-Net call a step; yield the state after each.

    start: [1,N,C,h,w] at the first sigma. keys: the first keyframe, and the last one unless method is "forward".
    guidance_scale, weights of the forward direction: [1,N,1,1,1]. The first half of the steps is repeated
    `recurrence` times from re-injected noise, which lets the two directions agree.
    """
    z, steps = start, len(plan.timesteps)
    guidance_scale, weights = guidance_scale.to(z), weights.to(z)
    early = 0 if method == "forward" else int(steps / 2)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for repeat in range(1 + recurrence * (i < early)):
            if repeat:
                z = renoise(z, sigma, below, generator)
            # the second direction sees the video backwards in time, from the last keyframe
            with fused_network(model, method, rotate):
                pairs = guided(model, [z, z.flip(1)][: len(keys)], keys, sigma, timestep)
            v = [without + guidance_scale * (image - without) for without, image in pairs]
            forward, backward = denoised(z, v[0], sigma), None
            clean = forward
            if len(v) == 2:
                backward = denoised(z, v[1].flip(1), sigma)
                clean = weights * forward + (1 - weights) * backward
            z = euler(z, clean, sigma, below)
            yield Step(i, repeat, sigma, z, clean, forward, backward)


def denoise_alternating(
    model: VideoModel,
    start: Tensor,
    keys: list[Keyframe],
    plan: Schedule,
    *,
    plain: bool,
    guidance_scale: Tensor,
    generator: torch.Generator,
) -> Iterator[Step]:
    """Run ViBiDSampler: a step on the first keyframe, noise again, flip, a step on the last one, flip back.

    plain: ordinary guidance. Otherwise CFG++ at its full scale (the clean prediction of the conditional branch, the
    noise of the unconditional one), and the far keyframe's latent takes the place of the clean prediction there.
    """
    z, scale = start, model.vae.config.scaling_factor
    guidance_scale = guidance_scale.to(z)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for direction, key in enumerate(keys):
            if direction:
                z = renoise(z, sigma, below, generator).flip(1)
            ((without, image),) = guided(model, [z], [key], sigma, timestep)
            if plain:
                clean = denoised(z, without + guidance_scale * (image - without), sigma)
                z = euler(z, clean, sigma, below)
            else:
                clean = denoised(z, image, sigma)
                clean[:, -1] = keys[1 - direction].latent * scale
                z = clean + below * (z - denoised(z, without, sigma)) / sigma
            z, clean = (z.flip(1), clean.flip(1)) if direction else (z, clean)
            yield Step(i, direction, sigma, z, clean)


def fused_network(model: VideoModel, method: str, rotate: tuple[str, ...] | None) -> Any:
    """Open the context in which one U-Net call is both directions; "trf" and "forward" use the network as it is."""
    if method in ("trf", "forward"):
        return nullcontext()
    deltas = getattr(model, DELTAS[method]) if method in DELTAS else None
    return two_directions(model.unet, rotate=rotate, deltas=deltas)
