"""What a benchmark interpolates: a pair of keyframes, and what is known about the frames between them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from interp_lib.bench.metrics import moving_pixels
from interp_lib.checks import check_size
from interp_lib.images import fit_images
from interp_lib.pairs.videos import read_pictures
from interp_lib.types import Pair

APART = 25  # frames at least between two keyframes; Source: Generative Inbetweening, section 5
MULTIPLE = 8  # px, by which every model here divides a side
Size = int | tuple[int, int] | None


@dataclass
class Case:
    """Two keyframes and the truth about the frames between them, where there is one.

    pair: `.frames` are the true frames [T,3,H,W] with both keyframes, or None. flow: of frame i to frame j, the true
    flow [1,2,H,W] in pixels and where it is visible, [1,1,H,W] bool. moving: [T,1,H,W] bool, the pixels on which
    something moves. ground: [1,3,H,W], the scene without its foreground object, which moves along `facing` (+1 right,
    -1 left, 0 unknown). tags: what the case is graded by, such as {"displacement": 0.27} in image sides.
    """

    pair: Pair
    flow: Callable[[int, int], tuple[Tensor, Tensor]] | None = None
    moving: Tensor | None = None
    ground: Tensor | None = None
    facing: float = 0.0
    tags: dict[str, float | str] = field(default_factory=dict)


def spacing(frames: int) -> tuple[int, int]:
    """Return (distance, step): keyframes `distance` frames apart, every `step`-th frame between them taken.

    distance is the smallest multiple of frames + 1 that is at least 25, so that the true frames are equally spaced and
    the motion of all settings is as alike as can be: 32 for 7 frames between, 33 for 32, 48 for 23.
    """
    step = -(-APART // (frames + 1))
    return step * (frames + 1), step


def clip_case(name: str, source: Path, *, frames: int, size: Size, first: int = 0) -> Case:
    """Return the case of `frames` equally spaced true frames of a video or folder, from frame `first` on; no flow.

    The frames are resized one by one. Raises ValueError, which names the source, for a clip that is too short, and
    where the first and the last frame are the same.
    """
    distance, step = spacing(frames)
    pictures = read_pictures(source, first, first + distance + 1, step)
    fitted = [fit_images(picture, size=size, multiple=MULTIPLE) for picture in pictures]
    if len(fitted) < frames + 2:
        count = sum(1 for _ in read_pictures(source))
        need = f"keyframes {distance} frames apart with {frames} between take {first + distance + 1}"
        raise ValueError(f"{source} has {count} frames: {need}, so take it out, or ask for other frames.")
    images = torch.cat([image for image, _ in fitted])
    if torch.equal(images[0], images[-1]):
        raise ValueError(f"{name}: both keyframes are the same picture, there is nothing to interpolate between them.")
    between = f"every {step}. frame" if step > 1 else "every frame"
    note = f"keyframes are frames {first} and {first + distance} of {source.name}, {between} between"
    notes = [f"{name}: {text}" for text in (note, *fitted[-1][1])]
    pair = Pair(name, images[:1], images[-1:], frames=images, notes=notes)
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
