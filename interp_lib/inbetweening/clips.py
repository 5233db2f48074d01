"""Training clips for backward motion: draw them from the model, check them, and identify them by their content."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.images import as_images
from interp_lib.inbetweening.animate import animate
from interp_lib.models.video_model import VideoModel


def draw_clips(
    model: VideoModel,
    images: Tensor,
    *,
    frames: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Tensor:
    """Make training clips [K,N,3,H,W] from K images [K,3,H,W] with the model itself, as the paper does (section 5).

    Image k is animated with seed + k; frames and steps are those of `animate`.
    """
    images = as_images(images, name="images")
    videos = [
        animate(model, image, frames=frames, steps=steps, seed=seed + k, progress=progress)
        for k, image in enumerate(images)
    ]
    return torch.stack([video.frames for video in videos])


def check_clips(model: VideoModel, clips: Any) -> list[Tensor]:
    """Return clips [N,3,H,W] of one shape that the model takes; ValueError for others."""
    if not isinstance(clips, (Tensor, Sequence)) or isinstance(clips, str) or len(clips) == 0:
        raise ValueError("clips: give tensors [N,3,H,W] in [0,1], as load_clips returns from a folder of videos.")
    listed = [as_images(clip, name=f"clips[{k}]") for k, clip in enumerate(clips)]
    for k, clip in enumerate(listed):
        if clip.shape != listed[0].shape:
            raise ValueError(
                f"clips[{k}] has shape {list(clip.shape)} and clips[0] {list(listed[0].shape)}: bring all to one size "
                "and length, as load_clips(..., frames=, size=) does."
            )
    check_format(len(listed[0]), *listed[0].shape[-2:], max_frames=model.max_frames, multiple=model.multiple)
    return listed


def check_format(frames: int, height: int, width: int, *, max_frames: int, multiple: int) -> None:
    """Raise ValueError for clips that a model of these limits does not take."""
    check_int("the number of frames of a clip", frames, 2, max_frames, "the most this model takes")
    if height % multiple or width % multiple:
        raise ValueError(f"clips are {width}x{height} pixels: both sides must be multiples of {multiple}.")


def digest(clips: list[Tensor]) -> str:
    """Hash the clips' content, so that no run continues from the checkpoint of another one."""
    hasher = hashlib.sha256()
    for clip in clips:
        hasher.update((clip * 255).round().byte().cpu().numpy().tobytes())
    return hasher.hexdigest()[:16]
