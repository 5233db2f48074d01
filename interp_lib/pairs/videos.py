"""Read videos and folders of frames, one frame at a time, and cut them into training clips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int, check_size
from interp_lib.images import MIN_SIDE, fit_images, from_bytes, open_image
from interp_lib.pairs.folders import image_files, natural_order

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
# ffmpeg recognises a file by its content; without this list it would also follow playlists that name other files
CONTAINERS = ["-format_whitelist", "mov,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg"]
# every decoded frame once: at a constant rate ffmpeg repeats frames where the picture starts late or pauses
DECODED_ONCE = ["-fps_mode", "passthrough"]


def read_pictures(
    source: str | os.PathLike, start: int = 0, stop: int | None = None, step: int = 1
) -> Iterator[Tensor]:
    """Yield the frames [1,3,H,W] in [0,1] of a video or of a folder of images, one by one.

    start, stop, step choose frames by their number as `range` does; the others are never converted. A video yields
    every frame that it stores once, whatever its time stamps say.
    Raises ValueError for a file that cannot be decoded and for images of different sizes.
    """
    source = Path(source)
    return (_read_folder if source.is_dir() else _read_video)(source, start, stop, step)


def _read_folder(folder: Path, start: int, stop: int | None, step: int) -> Iterator[Tensor]:
    first: torch.Size | None = None
    for file in image_files(folder)[0][start:stop:step]:
        picture = open_image(file)[0]
        first = first or picture.shape
        if picture.shape != first:
            (h, w), (h0, w0) = picture.shape[-2:], first[-2:]
            raise ValueError(f"{file} is {w}x{h} pixels, other frames of its folder are {w0}x{h0}.")
        yield picture


def _read_video(file: Path, start: int, stop: int | None, step: int) -> Iterator[Tensor]:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(os.path.abspath(file), input_params=CONTAINERS, output_params=DECODED_ONCE)
    try:
        width, height = next(reader)["size"]
        for data in islice(reader, start, stop, step):
            yield from_bytes(np.frombuffer(data, np.uint8).reshape(height, width, 3))
    except (OSError, RuntimeError, StopIteration, ValueError, KeyError):
        raise ValueError(f"{file} cannot be decoded as a video: convert it to MP4, or take it out.") from None
    finally:
        reader.close()


def load_clips(
    folder: str | os.PathLike,
    *,
    frames: int = 14,
    stride: int = 1,
    size: int | tuple[int, int] | None = None,
    windows: int = 1,
    progress: bool = False,
) -> tuple[Tensor, list[str]]:
    """Read training clips [K,frames,3,H,W] in [0,1] from every video and every folder of frames in `folder`.

    Returns the clips and one note per source. stride: take every stride-th frame; the released code of Generative
    Inbetweening learns from 27 frames at stride 2, which are 14. size: aspect-keeping resize that covers it and a
    centre crop, px (int = square, or (h, w)); None leaves the pixels alone. windows: take at most this many clips from
    each source, one after the other. Frames are resized as they are decoded, so memory is that of the result.
    Raises FileNotFoundError for a folder that does not exist, ValueError where it holds no clip, a video cannot be
    decoded or is too short, or sizes differ while no size is given.
    """
    folder, frames, stride = _existing(folder), check_int("frames", frames, 2), check_int("stride", stride, 1)
    windows, span = check_int("windows", windows, 1), (frames - 1) * stride + 1
    if size is not None:
        check_size("size", size, MIN_SIDE)
    sources = sorted((path for path in folder.iterdir() if _is_source(path)), key=natural_order)
    if not sources:
        raise ValueError(f"{folder} holds no clip: put videos ({' '.join(VIDEO_SUFFIXES)}) or folders of frames in it.")
    clips, notes = [], []
    for source in tqdm(sources, desc="reading clips", disable=not progress):
        found, count, adapted = _read_clips(source, frames, stride, windows, size)
        if not found:
            raise ValueError(
                f"{source} has {count} frames: {frames} frames at stride {stride} need {span}, so give a smaller "
                "stride or number of frames, or take it out of the folder."
            )
        if clips and found[0].shape != clips[0].shape:
            (h, w), (h0, w0) = found[0].shape[-2:], clips[0].shape[-2:]
            raise ValueError(f"{source} is {w}x{h} pixels and others are {w0}x{h0}: give size= to make them equal.")
        clips += found
        notes.append(
            "; ".join([f"{source.name}: {len(found)} clip(s) of {frames} frames at stride {stride}", *adapted])
        )
    result = torch.empty(len(clips), *clips[0].shape)
    for k in range(len(clips)):
        result[k], clips[k] = clips[k], None  # freed as it is copied: `torch.stack` would hold everything twice
    return result, notes


def _read_clips(
    source: Path, frames: int, stride: int, windows: int, size: int | tuple[int, int] | None
) -> tuple[list[Tensor], int, list[str]]:
    """Up to `windows` clips [frames,3,H,W] of one source, the number of frames read, and how they were adapted."""
    clips, notes, count, span = [], [], 0, (frames - 1) * stride + 1
    for picture in read_pictures(source, 0, windows * span):
        index, offset = divmod(count, span)
        if offset % stride == 0:
            picture, notes = fit_images(picture, size=size, multiple=1)
            if offset == 0:
                clips.append(torch.empty(frames, *picture.shape[1:]))
            clips[index][offset // stride] = picture[0]
        count += 1
    return clips[: count // span], count, notes


def _existing(folder: str | os.PathLike) -> Path:
    if not isinstance(folder, (str, os.PathLike)):
        raise ValueError(f"{folder!r} is no folder: give one that holds videos, or folders of frames.")
    path = Path(os.path.expanduser(folder))
    if not os.path.isdir(path):
        raise FileNotFoundError(f"{path} is no folder: give one that holds videos, or folders of frames.")
    return path


def _is_source(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in VIDEO_SUFFIXES if path.is_file() else path.is_dir() and bool(image_files(path)[0])
