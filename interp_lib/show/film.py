"""From a pair of images to a film on disk: one path for the command line and the app."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_lib.dreammover.pipeline import interpolate
from interp_lib.images import prepare_pair
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.image_model import ImageModel
from interp_lib.models.video_model import VideoModel
from interp_lib.show.media import Media
from interp_lib.show.video import save_video

EMBEDDED = (
    "the embedded model is a small one, trained on {}: it shows how the method works. For real images give it real "
    "weights, a diffusers folder or a hub id such as {}."
)
TRAINED_ON = {
    ImageModel: ("rendered creatures and a few photographs", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    VideoModel: ("rendered creatures alone", "stabilityai/stable-video-diffusion-img2vid-xt"),
}


@dataclass(frozen=True)
class Film:
    """A film that was written. summary: what it is, in one line. notes: one sentence for each thing adapted."""

    media: Media
    summary: str
    notes: list[str]


def make_film(
    model: ImageModel | VideoModel,
    image0: Tensor,
    image1: Tensor,
    path: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    fps: float = 8.0,
    progress: bool = True,
    note: Callable[[str], Any] = lambda sentence: None,
    **settings: Any,
) -> Film:
    """Make the frames between two images [1,3,H,W] and write them to `path`, of any kind that `save_video` writes.

    model: an ImageModel makes them with `interpolate`, a VideoModel with `inbetween`. settings: keyword arguments of
    that function; one that is None is left out, so the function follows the model's own recommendation.
    size: see `prepare_pair`. note: called with what was done to the images, before the run starts.
    Raises what these raise.
    """
    start = time.perf_counter()
    about = {"native_size": model.native_size, "multiple": model.multiple, "names": ("first image", "second image")}
    images, notes = prepare_pair((image0, image1), size=size, **about)
    for sentence in notes:
        note(sentence)
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(model, VideoModel):
        method, result = "Generative Inbetweening", inbetween(model, *images, fps=fps, progress=progress, **given)
    else:
        method, result = "DreamMover", interpolate(model, *images, progress=progress, **given)
    count, _, height, width = result.frames.shape
    media = save_video(result.frames, path, fps=fps, alt=f"{count} frames from the first to the last image, {method}")
    summary = (
        f"{count} frames of {width}x{height} pixels at {fps:g} fps by {method}, the first and the last of them the "
        f"keyframes, {result.unet_calls} U-Net calls, {time.perf_counter() - start:.1f} s"
    )
    return Film(media, summary, list(dict.fromkeys([*notes, *result.notes, *media.notes])))


def embedded_note(model: ImageModel | VideoModel) -> str:
    """Say in one line what the embedded model was trained on and how to use real weights."""
    return EMBEDDED.format(*TRAINED_ON[type(model)])
