"""Frames that any other tool has written, to be scored like the rest: `external:<folder>`.

For the case "world:7" the folder holds world_7/ with PNG or JPEG files in natural order, or a video world_7.mp4: either
all frames, both ends included, or only those between.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_ends, frame_files, read_files, read_video
from interp_lib.bench.metrics import psnr
from interp_lib.pairs.videos import VIDEO_SUFFIXES
from interp_lib.types import Interpolation, Pair

MODEL = None
SUFFIXES = (".png", ".jpg", ".jpeg")


def make(model: None, pair: Pair, *, frames: int, seed: int, folder: str | os.PathLike) -> Interpolation:
    """What the folder holds for this pair, between the pair's own images; `.notes` says whether it held the ends too.

    folder: see above; in the name of a case ":" and "/" become "_". The seed changes nothing.
    Raises FileNotFoundError for a missing folder or case, and ValueError for a number of frames that is neither
    `frames` nor `frames`+2, a size other than the pair's, files that are no images, and a clip that runs backwards.
    """
    files = find_frames(folder, pair.name)
    where = files[0] if files[0].suffix.lower() in VIDEO_SUFFIXES else files[0].parent
    images, notes = (read_video(where), ["decoded from a video"]) if where.is_file() else read_files(files)
    if len(images) not in (frames, frames + 2):
        raise ValueError(
            f"{where} holds {len(images)} frames: {frames} between the ends are asked for, so write {frames}, or "
            f"{frames + 2} with both ends."
        )
    if images.shape[-2:] != pair.image0.shape[-2:]:
        (h, w), (h0, w0) = images.shape[-2:], pair.image0.shape[-2:]
        raise ValueError(f"{where} holds frames of {w}x{h} pixels: {pair.name} has {w0}x{h0}, write them at that size.")
    if len(images) == frames:
        return between_ends(pair, images, notes=[f"{frames} frames without the ends", *notes])
    return between_ends(pair, images[1:-1], notes=[_check_ends(images, pair, where), *notes])


def find_frames(folder: str | os.PathLike, name: str) -> list[Path]:
    """The files that belong to a case: its images in natural order, or the one video.

    Raises FileNotFoundError where there are none and ValueError where there are several answers.
    """
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise ValueError("external: needs a folder of frames, as in external:results/mine.")
    folder, stem = Path(os.path.expanduser(folder)), re.sub(r"[:/\\]|^\.+", "_", name)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the one that holds a folder or a video for every case.")
    inside = folder / stem
    images = frame_files(inside, SUFFIXES) if inside.is_dir() else []
    videos = [file for suffix in VIDEO_SUFFIXES if (file := folder / f"{stem}{suffix}").is_file()]
    if len(videos) + bool(images) > 1:
        raise ValueError(f"{folder} has more than one answer for {name}: keep {inside.name}/ or one video.")
    if not images and not videos:
        raise FileNotFoundError(
            f"{folder} has no frames for {name}: write them as PNG files into {inside}, or as {stem}.mp4."
        )
    return images or videos


def _check_ends(images: Tensor, pair: Pair, where: Path) -> str:
    """A note on how near the given ends are to the pair's; ValueError when they are the other way round."""
    given, own = images[[0, -1]], torch.cat([pair.image0, pair.image1])
    straight, crossed = psnr(given, own), psnr(given, own.flip(0))
    if bool((crossed > straight).all()):
        raise ValueError(f"{where} runs backwards: its first frame is the pair's last image, so reverse the order.")
    first, last = straight.tolist()
    return f"{len(images)} frames with the ends ({first:.1f} and {last:.1f} dB from the pair's, which replace them)"
