"""`animate`: image-to-video, forward or backward in time (paper sections 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp_lib.checks import check_callable, check_choice, check_int, check_switch
from interp_lib.inbetweening.prepare import (
    OnStep,
    check_deltas,
    check_numbers,
    condition_keyframe,
    frame_count,
    make_generator,
    prepare_keyframes,
    rotating_blocks,
    run,
    starting_noise,
    to_interpolation,
)
from interp_lib.inbetweening.sampling import (
    DELTAS,
    Keyframe,
    Schedule,
    Step,
    denoised,
    directions,
    euler,
    guided,
    noise_like,
    ramps,
    schedule,
)
from interp_lib.models.video_model import VideoModel, check_video_model
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image


def animate(
    model: VideoModel,
    image: Tensor | Image,
    *,
    frames: int | None = None,
    reverse: bool = False,
    method: str = "dual",
    steps: int = 50,
    guidance_scale: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_aug_strength: float = 0.02,
    fps: float = 7,
    motion_bucket_id: float = 127,
    rotate: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
) -> Interpolation:
    """Image-to-video: a video that starts at the image, or with `reverse=True` one that ends there.

    Source: section 4.1 and 4.2. Reverse: a forward video of the same image and the video backwards in time are made
    side by side, one U-Net call a step; the second uses the first one's maps turned by 180 degrees, and the deltas.
    method: how reverse is made: "dual", "no-rotation" (all projections tuned, no maps), or "no-finetune" (maps alone).
    rotate: blocks whose maps rotate, None is by method. latents: unit noise [1,frames,C,h,w] of the forward video; the
    other one starts from the same. The other arguments are those of `inbetween`. Frames come in true order of time.
    Raises ValueError for arguments that do not fit, and for reverse without deltas.
    """
    check_video_model(model)
    check_choice("method", method, ("dual", "no-rotation", "no-finetune"))
    frames, steps = frame_count(model, frames), check_int("steps", steps, 1, 1000)
    check_numbers(guidance_scale, noise_aug_strength, fps, motion_bucket_id)
    check_switch("reverse", reverse)
    check_callable("on_step", on_step)
    if reverse:
        check_deltas(model, method)
    rotate = rotating_blocks(model, method, rotate)
    generator = make_generator(seed)
    (picture,), notes = prepare_keyframes(model, (image,), size)
    plan, calls = schedule(model, steps), model.unet_calls
    start = starting_noise(model, latents, frames, picture, generator) * plan.start
    key = condition_keyframe(
        model, picture, noise_like(picture, generator), (fps, motion_bucket_id, noise_aug_strength)
    )
    ramp = ramps(guidance_scale, frames, constant=False)
    states = _animation(model, start, key, plan, ramp, method if reverse else "", rotate)
    state = run(states, steps, on_step, progress, "animate")
    return to_interpolation(model, state.latents, calls, notes, picture, progress)


def _animation(
    model: VideoModel, start: Tensor, key: Keyframe, plan: Schedule, ramp: Tensor, method: str, rotate: Any
) -> Iterator[Step]:
    """The forward video alone, or beside it the backward one, each with its own Euler steps."""
    videos, ramp = [start] if not method else [start, start], ramp.to(start)
    deltas = getattr(model, DELTAS[method]) if method in DELTAS else None
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        with directions(model, method or "forward", rotate, deltas):
            pairs = guided(model, videos, [key] * len(videos), sigma, timestep)
        clean = [
            denoised(z, without + ramp * (image - without), sigma)
            for z, (without, image) in zip(videos, pairs, strict=True)
        ]
        videos = [euler(z, x, sigma, below) for z, x in zip(videos, clean, strict=True)]
        last = (videos[-1].flip(1), clean[-1].flip(1)) if method else (videos[0], clean[0])
        yield Step(i, 0, sigma, *last, clean[0], last[1] if method else None)
