"""Training clips for backward motion: check them, and identify them by their content."""

import hashlib
from collections.abc import Sequence

from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.images import as_images
from interp_lib.models.video_model import VideoModel


def check_clips(model: VideoModel, clips: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return clips [N,3,H,W] of one shape that the model takes; ValueError for others."""
    if len(clips) == 0:
        raise ValueError("clips: give tensors [N,3,H,W] in [0,1], as load_clips returns from a folder of videos.")
    listed = [as_images(clip, name=f"clips[{k}]") for k, clip in enumerate(clips)]
    for k, clip in enumerate(listed):
        if clip.shape != listed[0].shape:
            shapes = f"{list(clip.shape)} and clips[0] {list(listed[0].shape)}"
            raise ValueError(f"clips[{k}] has shape {shapes}: load_clips(..., frames=, size=) brings all to one size.")
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
