"""Clips to learn from: a folder of videos, or of folders that hold frames, as tensors of one length and size."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int, check_size
from interp_lib.images import MIN_SIDE, fit_images, from_bytes, open_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
# What a video file may be: ffmpeg goes by content, and would also follow a list of other files that is named .mp4
CONTAINERS = ["-format_whitelist", "mov,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg"]
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def load_clips(
    folder: str | os.PathLike,
    *,
    frames: int = 14,
    stride: int = 1,
    size: int | tuple[int, int] | None = None,
    windows: int = 1,
    progress: bool = False,
) -> tuple[Tensor, list[str]]:
    """Clips [K,frames,3,H,W] in [0,1] of every video or folder of frames in `folder`, and one note per source.

    stride: every how manieth frame is taken; the released code learns from 27 frames at stride 2, which are 14.
    size: aspect-keeping resize that covers it and a centre crop, px (int = square, or (h, w)); None keeps the pixels.
    windows: clips per source, one behind the other, as many as there are and at most this number.
    progress: a bar over the sources.
    Raises FileNotFoundError for a folder that is not there, ValueError where it holds no clip, a video cannot be
    decoded, is shorter than (frames-1)*stride+1 frames, or sizes differ while no size is given.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise ValueError(f"{folder!r} is no folder: give one that holds videos, or folders of frames.")
    folder = Path(os.path.expanduser(folder))
    frames, stride = check_int("frames", frames, 2), check_int("stride", stride, 1)
    windows, span = check_int("windows", windows, 1), (frames - 1) * stride + 1
    if size is not None:
        check_size("size", size, MIN_SIDE)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder} is no folder: give one that holds videos, or folders of frames.")
    sources = sorted((p for p in folder.iterdir() if _is_source(p)), key=natural_order)
    if not sources:
        kinds = " ".join(VIDEO_SUFFIXES)
        raise ValueError(f"{folder} holds no clip: put videos ({kinds}) or folders of frames into it.")
    clips, notes = [], []
    for source in tqdm(sources, desc="reading clips", disable=not progress):
        taken = list(islice(read_pictures(source), windows * span))
        count = len(taken) // span
        if count == 0:
            raise ValueError(
                f"{source} has {len(taken)} frames: {frames} frames at stride {stride} need {span}, so give a smaller "
                "stride or number of frames, or take it out of the folder."
            )
        said: list[str] = []
        for first in range(0, count * span, span):
            pictures = torch.cat(taken[first : first + span : stride])
            pictures, said = fit_images(pictures, size=size, multiple=1)
            clips.append(pictures)
        notes.append("; ".join([f"{source.name}: {count} clip(s) of {frames} frames at stride {stride}", *said]))
    for source, clip in zip(sources, clips, strict=False):
        if clip.shape != clips[0].shape:
            (h, w), (h0, w0) = clip.shape[-2:], clips[0].shape[-2:]
            raise ValueError(f"{source} is {w}x{h} pixels and others are {w0}x{h0}: give size= to bring all to one.")
    return torch.stack(clips), notes


def _is_source(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in VIDEO_SUFFIXES if path.is_file() else path.is_dir() and bool(_files(path))


def _files(folder: Path) -> list[Path]:
    found = (p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=natural_order)


def natural_order(path: Path) -> list[int | str]:
    """2.png before 10.png."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def read_pictures(source: Path) -> Iterator[Tensor]:
    """The frames [1,3,H,W] of a video or of a folder, one by one."""
    if source.is_dir():
        first: tuple[int, ...] | None = None
        for file in _files(source):
            picture = open_image(file)[0]
            first = first or tuple(picture.shape)
            if tuple(picture.shape) != first:
                h, w = picture.shape[-2:]
                raise ValueError(f"{file} is {w}x{h} pixels, other frames of its folder are {first[3]}x{first[2]}.")
            yield picture
        return
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(os.path.abspath(source), pix_fmt="rgb24", input_params=CONTAINERS)
    try:
        width, height = next(reader)["size"]
        for data in reader:
            yield from_bytes(np.frombuffer(data, np.uint8).reshape(height, width, 3))
    except (OSError, RuntimeError, StopIteration, ValueError, KeyError):
        raise ValueError(f"{source} cannot be decoded as a video: convert it to MP4, or take it out.") from None
    finally:
        reader.close()
