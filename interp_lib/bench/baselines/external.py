"""Frames that any other tool has written, to be measured like the rest: `external:FOLDER`.

For the case "world:7" the folder holds world_7/ with images in natural order, or a video world_7.mp4: either all
frames, keyframes included, or only those between. In the name of a case ":" and "/" become "_".
"""

import os
import re
from pathlib import Path

import torch

from interp_lib.bench.baselines._frames import between_keyframes
from interp_lib.pairs.videos import VIDEO_SUFFIXES, read_pictures
from interp_lib.types import Interpolation, Pair


def external(model: None, pair: Pair, *, frames: int, seed: int, folder: str | os.PathLike) -> Interpolation:
    """Return what the folder holds for this pair, between the pair's own images; the seed changes nothing.

    Raises FileNotFoundError for a missing folder or case, and ValueError for a number of frames that is neither
    `frames` nor `frames`+2, a size other than the pair's, and files that are no images.
    """
    source = find_frames(folder, pair.name)
    images = torch.cat(list(read_pictures(source)))
    (h, w), (h0, w0) = images.shape[-2:], pair.image0.shape[-2:]
    if len(images) not in (frames, frames + 2):
        raise ValueError(f"{source} holds {len(images)} frames: write {frames}, or {frames + 2} with both keyframes.")
    if (h, w) != (h0, w0):
        raise ValueError(f"{source} holds frames of {w}x{h} pixels: {pair.name} has {w0}x{h0}, write that size.")
    note = f"{frames} frames without the keyframes"
    if len(images) == frames + 2:
        note, images = f"{len(images)} frames with the keyframes, which the pair's replace", images[1:-1]
    return between_keyframes(pair, images, notes=[note, "decoded from a video"] if source.is_file() else [note])


def find_frames(folder: str | os.PathLike, name: str) -> Path:
    """Return the folder of images or the video that belongs to a case.

    Raises FileNotFoundError where there is none and ValueError where there are several.
    """
    folder, stem = Path(os.path.expanduser(folder)), re.sub(r"[:/\\]|^\.+", "_", name)
    inside = folder / stem
    sources = [inside] if inside.is_dir() and any(inside.iterdir()) else []
    sources += [file for suffix in VIDEO_SUFFIXES if (file := folder / f"{stem}{suffix}").is_file()]
    if len(sources) > 1:
        raise ValueError(f"{folder} has more than one answer for {name}: keep {stem}/ or one video.")
    if not sources:
        way_out = f"write them as PNG files into {inside}, or as {stem}.mp4"
        raise FileNotFoundError(f"{folder} has no frames for {name}: {way_out}.")
    return sources[0]
