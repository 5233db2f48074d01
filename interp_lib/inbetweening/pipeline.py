"""`inbetween`: Generative Inbetweening whole, from two keyframes to a video (paper section 4, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp_lib.checks import check_callable, check_choice, check_int
from interp_lib.inbetweening.prepare import (
    OnStep,
    check_deltas,
    check_numbers,
    check_weights,
    condition_keyframe,
    frame_count,
    make_generator,
    prepare_keyframes,
    rotating_blocks,
    run,
    starting_noise,
    to_interpolation,
)
from interp_lib.inbetweening.sampling import METHODS, noise_like, ramps, schedule, sweep, unet_calls, vibid
from interp_lib.models.video_model import VideoModel, check_video_model
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image

PRESETS = ("paper", "released")


def inbetween(
    model: VideoModel,
    frame0: Tensor | Image,
    frame1: Tensor | Image,
    *,
    frames: int | None = None,
    method: str = "dual",
    preset: str = "paper",
    steps: int = 50,
    recurrence: int = 5,
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
    """A video of `frames` frames in all that starts at frame0 and ends at frame1.

    Source: section 4.3, Alg. 2; the other methods are its ablations (5.3) and two relatives (METHODS).
    frame0, frame1: one image each, of one size; sides that are no multiples of the model's are resized with the aspect
    kept as far as multiples allow, then cropped, and noted; size: another one, in px (int = square, or (h, w)).
    frames: None is the model's own number. method: "dual" (needs backward-motion deltas, as does "no-rotation"),
    "no-finetune" (rotation in the up-blocks, the model's own weights), "trf", "vibid", "vibid-plain", "forward".
    preset: "paper": each direction has its own guidance ramp away from its keyframe; "released": the ramp averaged with
    its flip, unless fuse is "linear". fuse: "average", "linear" (forward's weight falls from 1 to 0; always so for
    "trf"), or forward's weight, a number or [frames]. rotate: blocks whose maps rotate, such as "up_blocks" or
    ["mid_block", "up_blocks.1"]; None is by method. recurrence: how often each step of the first half is repeated.
    latents: unit noise [1,frames,C,h,w] in place of a draw from `seed`. fps, motion_bucket_id, noise_aug_strength:
    SVD's micro-conditioning. on_step: called with every `Step`.
    Returns frames and latents [1,frames,C,h,w] as the model makes them, keyframes included.
    U-Net calls: steps + recurrence * int(steps/2), two directions in one call; "forward" steps, "vibid" 2 * steps.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    check_video_model(model)
    check_choice("method", method, METHODS)
    check_choice("preset", preset, PRESETS)
    check_callable("on_step", on_step)
    frames = frame_count(model, frames)
    steps, recurrence = check_int("steps", steps, 1, 1000), check_int("recurrence", recurrence, 0)
    check_numbers(guidance_scale, noise_aug_strength, fps, motion_bucket_id)
    weights = check_weights("linear" if method == "trf" else fuse, frames)
    check_deltas(model, method)
    rotate = rotating_blocks(model, method, rotate)
    generator = make_generator(seed)
    (first, last), notes = prepare_keyframes(model, (frame0, frame1), size)
    if torch.equal(first, last):
        raise ValueError("frame0 and frame1 are identical: there is nothing between them, give two different images.")
    if method == "vibid-plain":
        notes.append("vibid-plain: without CFG++ and without the projection onto the keyframes")
    plan, calls = schedule(model, steps), model.unet_calls
    start = starting_noise(model, latents, frames, first, generator) * plan.start
    noise, conditioning = noise_like(first, generator), (fps, motion_bucket_id, noise_aug_strength)
    keys = [
        condition_keyframe(model, image, noise, conditioning)
        for image in (first, last)[: 1 if method == "forward" else 2]
    ]
    linear = isinstance(fuse, str) and fuse == "linear"
    constant = preset == "released" and not linear and method in ("dual", "no-rotation", "no-finetune")
    ramp = ramps(guidance_scale, frames, constant=constant)
    if method.startswith("vibid"):
        states = vibid(
            model, start, keys, plan, plain=method != "vibid", guidance_scale=ramp.to(start), generator=generator
        )
    else:
        states = sweep(
            model,
            start,
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
    return to_interpolation(model, state.latents, calls, notes, first, progress)
