"""Frames to a file that plays: GIF, animated WebP, MP4."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interp_lib.checks import check_number
from interp_lib.files import atomic_write
from interp_lib.show.media import Media

SLOWEST = 0.01  # frames per second: a GIF has room for eleven minutes a frame


def save_video(frames: Tensor, path: str | Path, *, fps: float = 8, alt: str = "") -> Media:
    """Write frames as an endless GIF or WebP or as an H.264 MP4, by the suffix of `path`.

    frames: [T,3,H,W] in [0,1]. fps: frames per second (a GIF keeps time in steps of 10 ms).
    alt: what a reader who cannot see it needs to know; a notebook shows the returned file with it.
    H.264 wants even sides: an odd one repeats its last row or column, and the result's `.notes` say so.
    The file is written whole or not at all. Raises ValueError for frames, suffix or fps that cannot be written, and
    FileNotFoundError when the folder does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"{path!r} is no path: give the name of a video, ending in .gif, .webp or .mp4")
    path = Path(path)
    writers = {".gif": _write_animation, ".webp": _write_animation, ".mp4": _write_mp4}
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path}: a video's name ends in .gif, .webp or .mp4")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")
    fps = check_number("fps", fps, SLOWEST, 100)
    pixels, notes = _pixels(frames), []
    height, width = pixels.shape[1:3]
    if path.suffix.lower() == ".mp4" and (height % 2 or width % 2):
        pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        notes.append(f"H.264 needs even sides: {width}x{height} was padded to {pixels.shape[2]}x{pixels.shape[1]}.")
    with atomic_write(path) as temporary:
        writers[path.suffix.lower()](pixels, temporary, fps)
    return Media(path, alt, tuple(notes))


def _pixels(frames: Tensor) -> np.ndarray:
    """Frames as bytes [T,H,W,3]."""
    if not isinstance(frames, Tensor) or frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        shape = list(frames.shape) if hasattr(frames, "shape") else type(frames).__name__
        raise ValueError(f"frames must be a tensor [T,3,H,W] with at least one frame, got {shape}")
    frames = frames.detach().float().cpu()
    if not torch.isfinite(frames).all():
        raise ValueError(
            "frames hold NaN or infinite values: where the model ran in float16, load it with dtype=torch.float32 "
            "(--dtype float32)"
        )
    if frames.min() < -1e-3 or frames.max() > 1 + 1e-3:
        raise ValueError(
            f"frames must lie in [0,1], these span {frames.min():.3g} to {frames.max():.3g}; use frames.clamp(0, 1)"
        )
    return (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def _write_animation(pixels: np.ndarray, path: Path, fps: float) -> None:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in pixels]
    options = {"quality": 90, "method": 4} if path.suffix.lower() == ".webp" else {"disposal": 1}
    images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, **options)


def _write_mp4(pixels: np.ndarray, path: Path, fps: float) -> None:
    import imageio.v2 as imageio
    import imageio_ffmpeg

    quality = ["-crf", "18", "-fflags", "+bitexact", "-flags", "+bitexact", "-movflags", "+faststart"]
    with imageio.get_writer(
        os.path.abspath(path),  # (ffmpeg takes a:b.mp4 for a protocol)
        format="FFMPEG",
        fps=fps,
        codec="libx264",
        pixelformat="yuv420p",
        macro_block_size=1,
        quality=None,
        output_params=quality,
    ) as writer:
        for frame in pixels:
            writer.append_data(frame)
    try:
        count, _ = imageio_ffmpeg.count_frames_and_secs(os.path.abspath(path))
    except (RuntimeError, OSError):
        count = 0
    if count != len(pixels):  # ffmpeg ends without a word to imageio when the disk is full
        raise OSError(f"ffmpeg wrote {count} of {len(pixels)} frames")
