"""`inbetween` and `animate`: Generative Inbetweening whole, from keyframes to a video (paper section 4, Fig. 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_choice, check_int
from interp_lib.images import area_size, as_images, fit_images
from interp_lib.inbetweening.sampling import (
    DELTAS,
    METHODS,
    Keyframe,
    Schedule,
    Step,
    forward_weights,
    noise_like,
    ramps,
    schedule,
    sweep,
    unet_calls,
    vibid,
)
from interp_lib.inbetweening.temporal import choose_layers
from interp_lib.models.video_model import VideoModel, check_video_model, micro_conditioning
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image

PRESETS = ("paper", "released")
UP_BLOCKS = "up_blocks"  # where `no-finetune` rotates: section 5.3
OnStep = Callable[[Step], None]


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
    guidance: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_augmentation: float = 0.02,
    fps: float = 7,
    motion_bucket: float = 127,
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
    "no-finetune" (rotation in the up-blocks, the model's own weights), "trf", "vibid", "vibid (plain)", "forward".
    preset: "paper": each direction has its own guidance ramp away from its keyframe; "released": the ramp averaged with
    its flip, unless fuse is "linear". fuse: "average", "linear" (forward's weight falls from 1 to 0; always so for
    "trf"), or forward's weight, a number or [frames]. rotate: blocks whose maps rotate, such as "up_blocks" or
    ["mid_block", "up_blocks.1"]; None is by method. recurrence: how often each step of the first half is repeated.
    latents: unit noise [1,frames,C,h,w] in place of a draw from `seed`. fps, motion_bucket, noise_augmentation: SVD's
    micro-conditioning. on_step: called with every `Step`.
    Returns frames and latents [1,frames,C,h,w] as the model makes them, keyframes included.
    U-Net calls: steps + recurrence * int(steps/2), two directions in one call; "forward" steps, "vibid" 2 * steps.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    check_video_model(model)
    check_choice("method", method, METHODS)
    check_choice("preset", preset, PRESETS)
    frames = _frames(model, frames)
    steps, recurrence = check_int("steps", steps, 1, 1000), check_int("recurrence", recurrence, 0)
    _check_numbers(guidance, noise_augmentation, fps, motion_bucket)
    weights = _weights("linear" if method == "trf" else fuse, frames)
    _check_deltas(model, method)
    rotate = _rotate(model, method, rotate)
    generator = _generator(seed)
    (first, last), notes = _keyframes(model, (frame0, frame1), size)
    if torch.equal(first, last):
        raise ValueError("frame0 and frame1 are identical: there is nothing between them, give two different images.")
    if method == "vibid (plain)":
        notes.append("vibid (plain): without CFG++ and without the projection onto the keyframes")
    plan, calls = schedule(model, steps), model.unet_calls
    start = _start(model, latents, frames, first, generator) * plan.start
    noise, told = noise_like(first, generator), (fps, motion_bucket, noise_augmentation)
    keys = [_keyframe(model, image, noise, told) for image in (first, last)[: 1 if method == "forward" else 2]]
    constant = preset == "released" and fuse == "average" and method in ("dual", "no-rotation", "no-finetune")
    ramp = ramps(guidance, frames, constant=constant)
    if method.startswith("vibid"):
        states = vibid(
            model, start, keys, plan, plain=method != "vibid", guidance=ramp.to(start), generator=generator
        )
    else:
        states = sweep(
            model,
            start,
            keys,
            plan,
            method=method,
            recurrence=recurrence,
            guidance=ramp,
            weights=weights,
            rotate=rotate,
            generator=generator,
        )
    state = _run(states, unet_calls(method, steps, recurrence), on_step, progress, method)
    return _result(model, state.latents, calls, notes, first)


def animate(
    model: VideoModel,
    image: Tensor | Image,
    *,
    frames: int | None = None,
    reverse: bool = False,
    method: str = "dual",
    steps: int = 50,
    guidance: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_augmentation: float = 0.02,
    fps: float = 7,
    motion_bucket: float = 127,
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
    frames, steps = _frames(model, frames), check_int("steps", steps, 1, 1000)
    _check_numbers(guidance, noise_augmentation, fps, motion_bucket)
    if reverse:
        _check_deltas(model, method)
    rotate = _rotate(model, method, rotate)
    generator = _generator(seed)
    (picture,), notes = _keyframes(model, (image,), size)
    plan, calls = schedule(model, steps), model.unet_calls
    start = _start(model, latents, frames, picture, generator) * plan.start
    key = _keyframe(model, picture, noise_like(picture, generator), (fps, motion_bucket, noise_augmentation))
    ramp = ramps(guidance, frames, constant=False)
    states = _animation(model, start, key, plan, ramp, method if reverse else "", rotate)
    state = _run(states, steps, on_step, progress, "animate")
    return _result(model, state.latents, calls, notes, picture)


def _animation(
    model: VideoModel, start: Tensor, key: Keyframe, plan: Schedule, ramp: Tensor, method: str, rotate: Any
) -> Iterator[Step]:
    """The forward video alone, or beside it the backward one, each with its own Euler steps."""
    from interp_lib.inbetweening.sampling import _directions, denoised, euler, guided

    videos, ramp = [start] if not method else [start, start], ramp.to(start)
    deltas = getattr(model, DELTAS[method]) if method in DELTAS else None
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        with _directions(model, method or "forward", rotate, deltas):
            pairs = guided(model, videos, [key] * len(videos), sigma, timestep)
        clean = [
            denoised(z, without + ramp * (image - without), sigma)
            for z, (without, image) in zip(videos, pairs, strict=True)
        ]
        videos = [euler(z, x, sigma, below) for z, x in zip(videos, clean, strict=True)]
        last = (videos[-1].flip(1), clean[-1].flip(1)) if method else (videos[0], clean[0])
        yield Step(i, 0, sigma, *last, clean[0], last[1] if method else None)


def _run(states: Iterator[Step], total: int, on_step: OnStep | None, progress: bool, name: str) -> Step:
    with torch.no_grad():
        for state in tqdm(states, total=total, desc=name, disable=not progress):
            if on_step is not None:
                on_step(state)
    return state


def _result(model: VideoModel, latents: Tensor, calls: int, notes: list[str], image: Tensor) -> Interpolation:
    frames = model.decode(latents).to(image.device)
    return Interpolation(frames, latents, unet_calls=model.unet_calls - calls, notes=notes)


def _keyframe(model: VideoModel, image: Tensor, noise: Tensor, told: tuple[float, float, float]) -> Keyframe:
    fps, bucket, strength = told
    return Keyframe(*model.condition(image, noise, strength), micro_conditioning(fps, bucket, strength))


def _start(
    model: VideoModel, latents: Tensor | None, frames: int, image: Tensor, generator: torch.Generator
) -> Tensor:
    height, width = (side // model.vae_factor for side in image.shape[-2:])
    shape = (1, frames, model.latent_channels, height, width)
    if latents is None:
        return noise_like(torch.empty(shape, device=model.device), generator)
    if not isinstance(latents, Tensor) or tuple(latents.shape) != shape or not bool(torch.isfinite(latents).all()):
        what = list(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(f"latents: {what} given, finite unit noise of shape {list(shape)} is needed here.")
    return latents.to(model.device).float()


def _keyframes(model: VideoModel, images: Sequence[Any], size: Any) -> tuple[list[Tensor], list[str]]:
    """The keyframes [1,3,H,W] at a size the model takes, and what was done to them."""
    notes: list[str] = []
    names = ["image"] if len(images) == 1 else ["frame0", "frame1"]
    listed = [as_images(x, name=name, notes=notes) for name, x in zip(names, images, strict=True)]
    for name, x in zip(names, listed, strict=True):
        if len(x) != 1:
            raise ValueError(f"{name} is a batch of {len(x)}: give one image.")
    if len({x.shape for x in listed}) > 1:
        (h0, w0), (h1, w1) = (x.shape[-2:] for x in listed)
        raise ValueError(
            f"frame0 is {w0}x{h0} and frame1 {w1}x{h1} pixels: bring both to one size, for instance with fit_images."
        )
    height, width = listed[0].shape[-2:]
    if size is None and (height % model.multiple or width % model.multiple):
        size = area_size(height, width, side=round((height * width) ** 0.5), multiple=model.multiple)
    stack, said = fit_images(torch.cat([x.to(listed[0].device) for x in listed]), size=size, multiple=model.multiple)
    return list(stack.split(1)), notes + said


def _frames(model: VideoModel, frames: int | None) -> int:
    if frames is None:
        return model.frames
    return check_int("frames", frames, 2, model.max_frames, "the most this model makes")


def _generator(seed: Any) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(check_int("seed", seed, 0))


def _check_numbers(guidance: Any, noise: Any, fps: Any, bucket: Any) -> None:
    def number(x: Any) -> bool:
        return isinstance(x, (int, float)) and not isinstance(x, bool) and x == x and abs(x) != float("inf")

    if not (isinstance(guidance, (tuple, list)) and len(guidance) == 2 and all(map(number, guidance))):
        raise ValueError(f"guidance={guidance!r}: give two numbers, at the keyframe and far from it, such as (1, 3).")
    for name, value in (("noise_augmentation", noise), ("fps", fps), ("motion_bucket", bucket)):
        if not number(value) or value < 0:
            raise ValueError(f"{name}={value!r} is out of range: give a number of at least 0.")


def _weights(fuse: Any, frames: int) -> Tensor:
    ways = "'average', 'linear', or the forward direction's weight between 0 and 1, a number or [frames]"
    if isinstance(fuse, str) and fuse not in ("average", "linear"):
        raise ValueError(f"fuse={fuse!r} is unknown: give {ways}.")
    try:
        weights = forward_weights(fuse, frames)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"fuse={fuse!r} does not fit {frames} frames: give {ways}.") from None
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise ValueError(f"fuse has weights outside 0 to 1: give {ways}.")
    return weights


def _check_deltas(model: VideoModel, method: str) -> None:
    if method in DELTAS and not getattr(model, DELTAS[method]):
        how = "" if method == "dual" else ", rotate=False"
        raise ValueError(
            f"method={method!r} needs backward-motion deltas, which this model has not: fit them with "
            f"`model.{DELTAS[method]} = fit_backward_motion(model, clips, steps=...{how}).deltas`, or use "
            "'no-finetune', 'trf' or 'vibid', which need none."
        )


def _rotate(model: VideoModel, method: str, rotate: Any) -> Any:
    """Blocks that rotate: () none, None all."""
    if method not in ("dual", "no-finetune"):
        if rotate is not None:
            raise ValueError(f"rotate={rotate!r}: method={method!r} rotates no maps, leave it out.")
        return ()
    if rotate is None:
        return None if method == "dual" else (UP_BLOCKS,)
    blocks = (rotate,) if isinstance(rotate, str) else tuple(rotate)
    choose_layers(model.unet, blocks)
    return blocks
