"""True frames between keyframes: how far apart the keyframes are, which frames are taken, where something moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.bench.metrics import moving_pixels
from interp_lib.checks import check_size
from interp_lib.images import fit_images
from interp_lib.types import Pair

APART = 25  # frames at least between two keyframes; Source: Generative Inbetweening, section 5
MULTIPLE = 8  # px: what every model here divides a side by


def spacing(frames: int) -> tuple[int, int]:
    """(distance, step): keyframes `distance` frames apart with every `step`-th frame between them, `frames` in all.

    distance = step * (frames + 1) is the smallest such multiple that is at least 25, so the true frames are equally
    spaced and the motion of all settings is as alike as can be: 32 for 7 frames between, 33 for 32, 48 for 23.
    """
    step = -(-APART // (frames + 1))
    return step * (frames + 1), step


def thinned(pictures: Iterable[Tensor], *, distance: int, step: int, source: str) -> Iterator[Tensor]:
    """Frames 0, step, 2 step, ..., distance of a clip; ValueError, which names the source, for one that is shorter."""
    seen = 0
    for picture in pictures:
        if seen % step == 0:
            yield picture
        seen += 1
        if seen > distance:
            return
    raise ValueError(
        f"{source} has {seen} frames: keyframes {distance} frames apart with {distance // step - 1} between take "
        f"{distance + 1}, so take it out, or ask for another number of frames."
    )


def clip_case(
    name: str,
    pictures: Iterable[Tensor],
    *,
    size: int | tuple[int, int] | None,
    caption: str = "",
    notes: Iterable[str] = (),
    tags: dict[str, float | str],
) -> Case:
    """A case of true frames [1,3,H,W], which are brought to `size` one by one; flow unknown, moving where they change.

    Raises ValueError for sizes that `fit_images` refuses, and where the first and the last frame are the same.
    """
    frames: list[Tensor] = []
    said: list[str] = []
    for picture in pictures:
        fitted, said = fit_images(picture, size=size, multiple=MULTIPLE)
        frames.append(fitted)
    stack = torch.cat(frames)
    if torch.equal(stack[0], stack[-1]):
        raise ValueError(f"{name}: both keyframes are the same picture, there is nothing to interpolate between them.")
    notes = [*notes, *(f"{name}: {note}" for note in said)]
    pair = Pair(name, stack[:1], stack[-1:], frames=stack, caption=caption, notes=notes)
    return Case(pair, moving=moving_frames(pair), tags=tags)


def moving_frames(pair: Pair) -> Tensor:
    """`moving_pixels` of every true frame, both ends included: bool [T,1,H,W]."""
    return torch.cat([moving_pixels(pair, frame[None]) for frame in pair.frames])


def brought_down(
    size: int | tuple[int, int] | None, own: int | None, *, least: int
) -> tuple[tuple[int, int] | None, list[str]]:
    """`size`, or the set's own where it is None, as (h, w) of multiples of 8, with a note where that changed it.

    Raises ValueError for anything but whole numbers of at least `least` pixels.
    """
    size = own if size is None else size
    if size is None:
        return None, []
    height, width = check_size("size", size, least)
    h, w = height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE
    changed = (h, w) != (height, width)
    return (h, w), [f"size {width}x{height} brought down to {w}x{h}, a multiple of {MULTIPLE}"] if changed else []
