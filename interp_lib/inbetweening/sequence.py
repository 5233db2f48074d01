"""`inbetween_sequence`: one film through any number of keyframes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp_lib.checks import check_choice, check_switch
from interp_lib.inbetweening.pipeline import METHODS, sample
from interp_lib.inbetweening.prepare import OnStep, Settings
from interp_lib.memory import memory_advice
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image


@memory_advice("use fewer frames or a smaller size, or load the model with offload=True or in float16")
def inbetween_sequence(
    model: VideoModel,
    images: Sequence[Tensor | Image],
    *,
    frames: int | None = None,
    loop: bool = False,
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
    """Make one film through two or more keyframes, each stretch between neighbours as `inbetween` makes it.

    images: one image a keyframe, in the order of time; later ones are resized to the first one's size. Every image is
    encoded once. frames: of each stretch, both keyframes included, as in `inbetween`; the keyframe at a joint appears
    once, so n images make (n - 1) * (frames - 1) + 1 frames. loop: also go from the last image back to the first one,
    which is not repeated at the end, n * (frames - 1) frames: played in a circle, the film has no seam.
    The other arguments are those of `inbetween`; seed and latents give every stretch the same noise.

    Returns frames [T,3,H,W] and latents [1,T,C,h,w]; `.notes` says which frames are the keyframes. U-Net calls: those
    of `inbetween`, once a stretch. For two images without `loop` the result is that of `inbetween`, bit for bit.
    Raises ValueError, before anything slow, for fewer than two images, for identical neighbours, and as `inbetween`.
    """
    check_choice("method", method, METHODS)
    check_switch("loop", loop)
    images = list(images)
    if len(images) < 2:
        raise ValueError(f"images has length {len(images)}: give two keyframes or more.")
    conditioning = (fps, motion_bucket_id, noise_aug_strength)
    settings = Settings(
        model, method, preset, frames, steps, recurrence, guidance_scale, conditioning, fuse, rotate, seed
    )
    names = [f"images[{k}]" for k in range(len(images))]
    if loop:
        images, names = [*images, images[0]], [*names, names[0]]
    return sample(settings, images, names, size, latents, on_step, progress, loop=loop)
