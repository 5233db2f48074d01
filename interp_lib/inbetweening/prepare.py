"""What `inbetween` and `animate` share: arguments checked before anything slow, the loop over steps, the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int
from interp_lib.inbetweening.sampling import Keyframe, Step, forward_weights, noise_like
from interp_lib.inbetweening.temporal import choose_layers
from interp_lib.models.video_model import VideoModel, micro_conditioning
from interp_lib.types import Interpolation

DELTAS = {"dual": "reverse", "no-rotation": "no_rotation"}  # method -> attribute of the model that holds its deltas
PAPER = {"steps": 50, "recurrence": 5}
OnStep = Callable[[Step], None]


def recommended(
    model: VideoModel, name: str, value: int | None, *, low: int, high: int | None = None, notes: list[str]
) -> int:
    """Check a setting, or choose it and say so in `notes`: the model's own recommendation, else the paper's value."""
    if value is not None:
        return check_int(name, value, low, high)
    source = "the model's settings.json recommends" if name in model.settings else "in the paper"
    value = check_int(name, model.settings.get(name, PAPER[name]), low, high)
    notes.append(f"{name}={value}, as {source}")
    return value


def frame_count(model: VideoModel, frames: int | None) -> int:
    if frames is None:
        return model.frames
    return check_int("frames", frames, 2, model.max_frames, "the most this model makes")


def make_generator(seed: int | torch.Generator) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(check_int("seed", seed, 0, 2**63 - 1))


def check_conditioning(guidance_scale: Any, noise_aug_strength: Any, fps: Any, motion_bucket_id: Any) -> None:
    def number(x: Any) -> bool:
        return isinstance(x, (int, float)) and not isinstance(x, bool) and x == x and abs(x) != float("inf")

    pair = isinstance(guidance_scale, (tuple, list)) and len(guidance_scale) == 2
    if not pair or not all(map(number, guidance_scale)):
        raise ValueError(
            f"guidance_scale={guidance_scale!r}: give two numbers, at the keyframe and far from it, such as (1, 3)."
        )
    values = {"noise_aug_strength": noise_aug_strength, "fps": fps, "motion_bucket_id": motion_bucket_id}
    for name, value in values.items():
        if not number(value) or value < 0:
            raise ValueError(f"{name}={value!r} is out of range: give a number of at least 0.")


def check_weights(fuse: Any, frames: int) -> Tensor:
    """Return the weight of the forward direction in each frame, [1,frames,1,1,1]; ValueError for what is none."""
    choices = "'average', 'linear', or the forward direction's weight between 0 and 1, a number or [frames]"
    if isinstance(fuse, str) and fuse not in ("average", "linear"):
        raise ValueError(f"fuse={fuse!r} is unknown: give {choices}.")
    try:
        weights = forward_weights(fuse, frames)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"fuse={fuse!r} does not fit {frames} frames: give {choices}.") from None
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise ValueError(f"fuse has weights outside 0 to 1: give {choices}.")
    return weights


def check_deltas(model: VideoModel, method: str) -> None:
    if method in DELTAS and not getattr(model, DELTAS[method]):
        option = "" if method == "dual" else ", rotate=False"
        raise ValueError(
            f"method={method!r} needs backward-motion deltas, which this model has not: fit them with "
            f"`model.{DELTAS[method]} = fit_backward_motion(model, clips, steps=...{option}).deltas`, or use "
            "'no-finetune', 'trf' or 'vibid', which need none."
        )


def check_rotation(model: VideoModel, method: str, rotate: Any) -> tuple[str, ...] | None:
    """Return the blocks whose maps rotate: () for none, None for all."""
    if method not in ("dual", "no-finetune"):
        if rotate is not None:
            raise ValueError(f"rotate={rotate!r}: method={method!r} rotates no maps, leave it out.")
        return ()
    if rotate is None:
        return None if method == "dual" else ("up_blocks",)  # the ablation rotates in the up-blocks only: section 5.3
    choose_layers(model.unet, rotate)
    return (rotate,) if isinstance(rotate, str) else tuple(rotate)


def starting_noise(
    model: VideoModel, latents: Tensor | None, frames: int, image: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw unit noise [1,frames,C,h,w] on the model's device, or check and take `latents`."""
    height, width = (side // model.vae_factor for side in image.shape[-2:])
    shape = (1, frames, model.latent_channels, height, width)
    if latents is None:
        return noise_like(torch.empty(shape, device=model.device), generator)
    if not isinstance(latents, Tensor) or tuple(latents.shape) != shape or not bool(torch.isfinite(latents).all()):
        what = list(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(f"latents: {what} given, finite unit noise of shape {list(shape)} is needed here.")
    return latents.to(model.device).float()


def condition_keyframe(
    model: VideoModel, image: Tensor, noise: Tensor, conditioning: tuple[float, float, float]
) -> Keyframe:
    """Encode a keyframe [1,3,H,W] in [0,1]. conditioning: (fps, motion bucket, strength of the image's noise)."""
    fps, bucket, strength = conditioning
    return Keyframe(*model.condition(image, noise, strength), micro_conditioning(fps, bucket, strength))


def run(states: Iterator[Step], total: int, on_step: OnStep | None, progress: bool, name: str) -> Step:
    """Go through all steps without gradients, show a bar, call on_step after each; return the last state."""
    with torch.no_grad():
        for state in tqdm(states, total=total, desc=name, disable=not progress):
            if on_step is not None:
                on_step(state)
    return state


def finish(
    model: VideoModel, latents: Tensor, calls: int, notes: list[str], image: Tensor, progress: bool, *, whole: bool
) -> Interpolation:
    """Decode the video on the keyframe's device and assemble the result; calls: the model's count before the run."""
    frames = model.decode(latents, device=image.device, whole=whole, notes=notes, progress=progress)
    return Interpolation(frames, latents, unet_calls=model.unet_calls - calls, notes=notes)
