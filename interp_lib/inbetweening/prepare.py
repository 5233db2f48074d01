"""What `inbetween` and `animate` share: checks before anything slow, keyframes brought to the model's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int
from interp_lib.images import area_size, as_images, fit_images
from interp_lib.inbetweening.sampling import DELTAS, Keyframe, Step, forward_weights, noise_like
from interp_lib.inbetweening.temporal import choose_layers
from interp_lib.models.video_model import VideoModel, micro_conditioning
from interp_lib.types import Interpolation

UP_BLOCKS = "up_blocks"  # where `no-finetune` rotates: section 5.3
OnStep = Callable[[Step], None]


def run(states: Iterator[Step], total: int, on_step: OnStep | None, progress: bool, name: str) -> Step:
    with torch.no_grad():
        for state in tqdm(states, total=total, desc=name, disable=not progress):
            if on_step is not None:
                on_step(state)
    return state


def to_interpolation(
    model: VideoModel, latents: Tensor, calls: int, notes: list[str], image: Tensor, progress: bool
) -> Interpolation:
    frames = model.decode(latents, device=image.device, progress=progress)
    return Interpolation(frames, latents, unet_calls=model.unet_calls - calls, notes=notes)


def condition_keyframe(
    model: VideoModel, image: Tensor, noise: Tensor, conditioning: tuple[float, float, float]
) -> Keyframe:
    fps, bucket, strength = conditioning
    return Keyframe(*model.condition(image, noise, strength), micro_conditioning(fps, bucket, strength))


def starting_noise(
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


def prepare_keyframes(model: VideoModel, images: Sequence[Any], size: Any) -> tuple[list[Tensor], list[str]]:
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


def frame_count(model: VideoModel, frames: int | None) -> int:
    if frames is None:
        return model.frames
    return check_int("frames", frames, 2, model.max_frames, "the most this model makes")


def make_generator(seed: Any) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(check_int("seed", seed, 0, 2**63 - 1))


def check_numbers(guidance_scale: Any, noise: Any, fps: Any, bucket: Any) -> None:
    def number(x: Any) -> bool:
        return isinstance(x, (int, float)) and not isinstance(x, bool) and x == x and abs(x) != float("inf")

    if not (
        isinstance(guidance_scale, (tuple, list)) and len(guidance_scale) == 2 and all(map(number, guidance_scale))
    ):
        raise ValueError(
            f"guidance_scale={guidance_scale!r}: give two numbers, at the keyframe and far from it, such as (1, 3)."
        )
    for name, value in (("noise_aug_strength", noise), ("fps", fps), ("motion_bucket_id", bucket)):
        if not number(value) or value < 0:
            raise ValueError(f"{name}={value!r} is out of range: give a number of at least 0.")


def check_weights(fuse: Any, frames: int) -> Tensor:
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


def check_deltas(model: VideoModel, method: str) -> None:
    if method in DELTAS and not getattr(model, DELTAS[method]):
        how = "" if method == "dual" else ", rotate=False"
        raise ValueError(
            f"method={method!r} needs backward-motion deltas, which this model has not: fit them with "
            f"`model.{DELTAS[method]} = fit_backward_motion(model, clips, steps=...{how}).deltas`, or use "
            "'no-finetune', 'trf' or 'vibid', which need none."
        )


def rotating_blocks(model: VideoModel, method: str, rotate: Any) -> Any:
    """Blocks that rotate: () none, None all."""
    if method not in ("dual", "no-finetune"):
        if rotate is not None:
            raise ValueError(f"rotate={rotate!r}: method={method!r} rotates no maps, leave it out.")
        return ()
    if rotate is None:
        return None if method == "dual" else (UP_BLOCKS,)
    choose_layers(model.unet, rotate)
    return (rotate,) if isinstance(rotate, str) else tuple(rotate)
