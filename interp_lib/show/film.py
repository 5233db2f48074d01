"""From images to a film on disk: one path for the command line and the app."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_lib.dreammover import pipeline as dreammover
from interp_lib.dreammover.pipeline import interpolate_sequence
from interp_lib.images import prepare_pair
from interp_lib.inbetweening import pipeline as inbetweening
from interp_lib.inbetweening.pipeline import inbetween_sequence
from interp_lib.models.image_model import ImageModel
from interp_lib.models.video_model import VideoModel
from interp_lib.show.media import Media
from interp_lib.show.video import save_video

EMBEDDED = {  # what it was trained on, and real weights in its place
    ImageModel: ("rendered creatures and a few photographs", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    VideoModel: ("rendered creatures alone", "stabilityai/stable-video-diffusion-img2vid-xt"),
}


@dataclass(frozen=True)
class Film:
    """A film that was written, of keyframes [1,3,H,W] as the method received them, and what was adapted for it."""

    media: Media
    images: list[Tensor]
    count: int
    summary: str
    notes: list[str]


def make_film(
    model: ImageModel | VideoModel,
    images: Sequence[Tensor],
    path: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    fps: float = 8.0,
    loop: bool = False,
    progress: bool = True,
    note: Callable[[str], Any] = lambda sentence: None,
    **settings: Any,
) -> Film:
    """Make the frames between two or more images [1,3,H,W] and write them to `path`, as `save_video` does.

    model: an ImageModel makes them by DreamMover, a VideoModel by Generative Inbetweening.
    size: see `prepare_pair`; every image is fitted to the first. loop: the film ends where it began.
    note: called with what was done to the images, before the run starts.
    settings: keyword arguments of `interpolate_sequence` or `inbetween_sequence`, for two images those of `interpolate`
    or `inbetween`; one that is None is left out, so that the model's recommendation applies. Raises what these raise.
    """
    start, several = time.perf_counter(), len(images) > 2 or loop
    names = [f"image {k + 1}" for k in range(len(images))] if several else ("first image", "second image")
    images, notes = prepare_pair(images, size=size, native_size=model.native_size, multiple=model.multiple, names=names)
    for sentence in notes:
        note(sentence)
    settings = {name: value for name, value in settings.items() if value is not None} | {"progress": progress}
    if isinstance(model, VideoModel):
        method, result = "Generative Inbetweening", inbetween_sequence(model, images, loop=loop, fps=fps, **settings)
    else:
        method, result = "DreamMover", interpolate_sequence(model, images, loop=loop, **settings)
    count, _, height, width = result.frames.shape
    media = save_video(result.frames, path, fps=fps, alt=f"{count} frames from the first to the last image, {method}")
    summary = (
        f"{count} frames of {width}x{height} pixels at {fps:g} fps by {method}, "
        f"{_keyframes(len(images), count, loop)}, {result.unet_calls} U-Net calls, {time.perf_counter() - start:.1f} s"
    )
    return Film(media, images, count, summary, list(dict.fromkeys([*notes, *result.notes, *media.notes])))


def _keyframes(images: int, count: int, loop: bool) -> str:
    """Say which of `count` frames are the keyframes; every gap between two of them has the same number of frames."""
    if images == 2 and not loop:
        return "the first and the last of them the keyframes"
    gap = count // images if loop else (count - 1) // (images - 1)
    *most, last = (str(k * gap) for k in range(images))
    numbers = f"{', '.join(most)} and {last}"
    return f"frames {numbers}, counted from 0, the keyframes{', in a loop' if loop else ''}"


def embedded_note(model: ImageModel | VideoModel) -> str:
    """Say in one line what the embedded model was trained on and how to use real weights."""
    world, real = EMBEDDED[type(model)]
    return (
        f"the embedded model is a small one, trained on {world}: it shows how the method works. For real images give "
        f"real weights, a diffusers folder or a hub id such as {real}."
    )


def quick_settings(model: ImageModel | VideoModel) -> dict[str, Any]:
    """Return the settings with which this model's method makes nearly the same film in far fewer U-Net calls."""
    return inbetweening.QUICK if isinstance(model, VideoModel) else dreammover.QUICK
