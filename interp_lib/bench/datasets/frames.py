"""Cases with true frames: how far apart keyframes are, which frames are taken, where something moves."""

from pathlib import Path

import torch
from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.bench.metrics import moving_pixels
from interp_lib.checks import check_size
from interp_lib.images import fit_images
from interp_lib.pairs.videos import read_pictures
from interp_lib.types import Pair

APART = 25  # frames at least between two keyframes; Source: Generative Inbetweening, section 5
MULTIPLE = 8  # px, by which every model here divides a side
Size = int | tuple[int, int] | None


def spacing(frames: int) -> tuple[int, int]:
    """Return (distance, step): keyframes `distance` frames apart, every `step`-th frame between them taken.

    distance = step * (frames + 1) is the smallest such multiple that is at least 25, so that the true frames are
    equally spaced and the motion of all settings is as alike as can be: 32 for 7 frames between, 33 for 32, 48 for 23.
    """
    step = -(-APART // (frames + 1))
    return step * (frames + 1), step


def clip_case(name: str, source: Path, *, distance: int, step: int, size: Size, note: str, first: int = 0) -> Case:
    """Return a case of frames first, first + step, ..., first + distance of a video or folder; flow unknown.

    The frames are resized one by one. Raises ValueError, which names the source, for a clip that is shorter, and where
    the first and the last frame are the same.
    """
    pictures = read_pictures(source, first, first + distance + 1, step)
    fitted = [fit_images(picture, size=size, multiple=MULTIPLE) for picture in pictures]
    if len(fitted) <= distance // step:
        count = sum(1 for _ in read_pictures(source, first))
        raise ValueError(
            f"{source} has {count} frames: keyframes {distance} frames apart with {distance // step - 1} between take "
            f"{distance + 1}, so take it out, or ask for another number of frames."
        )
    frames = torch.cat([frame for frame, _ in fitted])
    if torch.equal(frames[0], frames[-1]):
        raise ValueError(f"{name}: both keyframes are the same picture, there is nothing to interpolate between them.")
    notes = [f"{name}: {text}" for text in (note, *fitted[-1][1])]
    pair = Pair(name, frames[:1], frames[-1:], frames=frames, notes=notes)
    return Case(pair, moving=moving_frames(pair), tags={"distance": distance})


def moving_frames(pair: Pair) -> Tensor:
    """Return `moving_pixels` of every true frame, keyframes included: bool [T,1,H,W]."""
    return torch.cat([moving_pixels(pair, frame[None]) for frame in pair.frames])


def round_down(size: int | tuple[int, int], *, least: int) -> tuple[tuple[int, int], list[str]]:
    """Return the size as (h, w) of multiples of 8, with a note where that changed it; each side at least `least` px."""
    height, width = check_size("size", size, least)
    h, w = height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE
    changed = (h, w) != (height, width)
    return (h, w), [f"size {width}x{height} brought down to {w}x{h}, a multiple of {MULTIPLE}"] if changed else []
