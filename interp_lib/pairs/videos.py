"""Read videos and folders of images, one picture at a time, and cut them into training clips."""

import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int, check_size
from interp_lib.images import MIN_SIDE, fit_images, from_bytes, open_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
# ffmpeg recognises a file by its content; without this list it would also follow playlists that name other files
CONTAINERS = ["-format_whitelist", "mov,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg"]
# every decoded frame once: at a constant rate ffmpeg repeats frames where the picture starts late or pauses
DECODED_ONCE = ["-fps_mode", "passthrough"]
_STUBS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")  # formats that Pillow recognises but does not decode by itself


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes, such as ".png", of all that Pillow reads here; .heic with pillow-heif installed."""
    if find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    kinds = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in kinds if kind in Image.OPEN and kind not in _STUBS)


def image_files(folder: Path) -> tuple[list[Path], list[str]]:
    """List the images of a folder in natural order, and name the files (not hidden ones) that are skipped in a note."""
    files = sorted((p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")), key=natural_order)
    images = [file for file in files if file.suffix.lower() in image_suffixes()]
    skipped = [file.name for file in files if file not in images]
    names = ", ".join(skipped[:5]) + (f" and {len(skipped) - 5} more" if len(skipped) > 5 else "")
    hint = " (pip install pillow-heif reads HEIC)" if ".hei" in names.lower() else ""
    note = f"{folder.name}: skipped {names}, no image that Pillow reads here{hint}"
    return images, [note] if skipped else []


def natural_order(path: Path) -> list[int | str]:
    """Return a sort key that puts 2.png before 10.png."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def read_pictures(source: str | Path, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Tensor]:
    """Yield the frames [1,3,H,W] in [0,1] of a video or of a folder of images, one by one.

    start, stop, step choose frames by their number as `range` does; the others are never converted. A video yields
    every frame that it stores once, whatever its time stamps say. Raises ValueError for a file that cannot be decoded
    and for images of different sizes.
    """
    import imageio_ffmpeg

    if os.path.isdir(source):
        first = None
        for file in image_files(Path(source))[0][start:stop:step]:
            picture = open_image(file)[0]
            (h, w), (h0, w0) = picture.shape[-2:], first or picture.shape[-2:]
            if (h, w) != (h0, w0):
                raise ValueError(f"{file} is {w}x{h} pixels, other frames of its folder are {w0}x{h0}.")
            first = (h, w)
            yield picture
        return
    reader = imageio_ffmpeg.read_frames(os.path.abspath(source), input_params=CONTAINERS, output_params=DECODED_ONCE)
    try:
        width, height = next(reader)["size"]
        for data in islice(reader, start, stop, step):
            yield from_bytes(np.frombuffer(data, np.uint8).reshape(height, width, 3))
    except (OSError, RuntimeError, StopIteration, ValueError, KeyError):
        raise ValueError(f"{source} cannot be decoded as a video: convert it to MP4, or take it out.") from None
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
    Inbetweening learns from 27 frames at stride 2, which are 14. size: resize to cover it and crop at the centre, px
    (int = square, or (h, w)); None leaves the pixels alone. windows: at most this many clips from each source, one
    after the other. Raises FileNotFoundError for a folder that does not exist, ValueError where it holds no clip, a
    video cannot be decoded or is too short, or sizes differ while no size is given.
    """
    stride, windows = check_int("stride", stride, 1), check_int("windows", windows, 1)
    span = (check_int("frames", frames, 2) - 1) * stride + 1
    if size is not None:
        check_size("size", size, MIN_SIDE)
    clips, notes = [], []
    for source in tqdm(_sources(folder), desc="reading clips", disable=not progress):
        before, count = len(clips), 0
        for picture in read_pictures(source, 0, windows * span):
            window, offset = divmod(count, span)
            count += 1
            if offset % stride:
                continue
            picture, adapted = fit_images(picture, size=size, multiple=1)  # at once: memory is that of the result
            if picture.shape[1:] != (clips[0] if clips else picture[0]).shape[-3:]:
                (h, w), (h0, w0) = picture.shape[-2:], clips[0].shape[-2:]
                raise ValueError(f"{source} is {w}x{h} pixels and others are {w0}x{h0}: give size= to make them equal.")
            if offset == 0:
                clips.append(torch.empty(frames, *picture.shape[1:]))
            clips[before + window][offset // stride] = picture[0]
        if count < span:
            need = f"{source} has {count} frames: {frames} frames at stride {stride} need {span}"
            raise ValueError(f"{need}, so give a smaller stride or number of frames, or take it out of the folder.")
        del clips[before + count // span :]  # a last one that is not complete
        about = f"{source.name}: {len(clips) - before} clip(s) of {frames} frames at stride {stride}"
        notes.append("; ".join([about, *adapted]))
    result = torch.empty(len(clips), *clips[0].shape)
    for k in range(len(clips)):
        result[k], clips[k] = clips[k], None  # freed as it is copied: `torch.stack` would hold everything twice
    return result, notes


def _sources(folder: str | os.PathLike) -> list[Path]:
    """List the videos and the folders of frames in a folder, in natural order."""
    advice = "is no folder: give one that holds videos, or folders of frames."
    if not isinstance(folder, (str, os.PathLike)):
        raise ValueError(f"{folder!r} {advice}")
    path = Path(os.path.expanduser(folder))
    if not os.path.isdir(path):
        raise FileNotFoundError(f"{path} {advice}")
    inside = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=natural_order)
    sources = [p for p in inside if (image_files(p)[0] if p.is_dir() else p.suffix.lower() in VIDEO_SUFFIXES)]
    if not sources:
        raise ValueError(f"{path} holds no clip: put videos ({' '.join(VIDEO_SUFFIXES)}) or folders of frames in it.")
    return sources
