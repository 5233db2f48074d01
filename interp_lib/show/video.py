"""Frames to a film that plays: GIF, animated WebP, MP4, MOV, or a folder of PNG files."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interp_lib.checks import check_number
from interp_lib.files import atomic_write, check_target
from interp_lib.show.media import Media

KINDS = ".gif, .webp, .mp4 or .mov, or in no suffix for a folder of PNG files"
SLOWEST, FASTEST = 0.01, 100  # frames per second; a GIF's delay has room for eleven minutes
GIF_LEAST = 20  # ms that a frame is shown: browsers slow down what is below
# H.264 is converted with the BT.709 matrix and tagged so, since players guess where nothing is said.
BT709 = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
H264 = ["-vf", BT709, "-crf", "18", "-fflags", "+bitexact", "-flags", "+bitexact", "-movflags", "+faststart"]


def save_video(frames: Tensor, path: str | Path, *, fps: float = 8, alt: str = "") -> Media:
    """Write frames as an endless GIF or WebP, an H.264 MP4 or MOV, or a folder of PNG files, by the suffix of `path`.

    frames: [T,3,H,W] in [0,1]. fps: frames per second, 0.01 to 100.
    alt: what a reader who cannot see it needs to know; a notebook shows the returned file with it. A film is written
    whole or not at all; the files of a folder, 0000.png and so on, are lossless. What a format cannot hold is adapted
    and said in the result's `.notes`: H.264 wants even sides, so an odd one repeats its last row or column; a GIF shows
    at most 50 frames a second. Raises ValueError for frames and fps that cannot be written, and what `check_video_path`
    raises.
    """
    path = check_video_path(path)
    fps = check_number("fps", fps, SLOWEST, FASTEST)
    pixels, kind = _to_bytes(frames), path.suffix.lower()
    if not kind:
        _write_folder(pixels, path)
        return Media(path, alt)
    write = {".gif": _write_gif, ".webp": _write_webp}.get(kind, _write_h264)
    with atomic_write(path) as temporary:
        notes = write(pixels, temporary, fps)
    return Media(path, alt, tuple(notes))


def check_video_path(path: str | Path) -> Path:
    """Return the path with "~" expanded, if a film can be written there; for long work, before it begins.

    Raises ValueError for a name of another kind and a folder that is not empty, and what `check_target` raises.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ValueError(f"{path!r} is no path: give the name of a video, ending in {KINDS}.")
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() not in ("", ".gif", ".webp", ".mp4", ".mov"):
        raise ValueError(f"{path}: a video's name ends in {KINDS}.")
    if path.suffix or not path.exists():
        check_target(path)
    elif not path.is_dir() or any(path.iterdir()):
        raise ValueError(f"{path} exists: name an empty or a new folder for the frames, or a file ending in .mp4.")
    return path


def _to_bytes(frames: Tensor) -> np.ndarray:
    """Check the frames and return them as bytes [T,H,W,3]."""
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


def _write_gif(pixels: np.ndarray, path: Path, fps: float) -> list[str]:
    seconds = _write_animation(pixels, path, fps, unit=10, least=GIF_LEAST, disposal=1)  # it counts in hundredths
    if fps <= 1000 / GIF_LEAST:
        return []
    lasts = f"{seconds:.2g} s in place of {len(pixels) / fps:.2g} s"
    return [f"a GIF shows at most {1000 // GIF_LEAST} frames a second: this one lasts {lasts}."]


def _write_webp(pixels: np.ndarray, path: Path, fps: float) -> list[str]:
    _write_animation(pixels, path, fps, unit=1, least=1, quality=90, method=4)
    return []


def _write_animation(pixels: np.ndarray, path: Path, fps: float, *, unit: int, least: int, **options: int) -> float:
    """Write frames that are shown for multiples of `unit` ms; return the seconds that all last.

    The ends of the frames are rounded, not the delays, so that rounding does not add up: at 8 frames a second a GIF's
    delays alternate between 120 and 130 ms.
    """
    ends = np.rint(np.arange(len(pixels) + 1) * 1000 / fps / unit) * unit
    delays = np.maximum(np.diff(ends), least).astype(int).tolist()
    first, *others = [Image.fromarray(frame) for frame in pixels]
    first.save(path, save_all=True, append_images=others, duration=delays, loop=0, **options)
    return sum(delays) / 1000


def _write_folder(pixels: np.ndarray, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        frames = Path(temporary, "frames")
        frames.mkdir()
        for k, frame in enumerate(pixels):
            Image.fromarray(frame).save(frames / f"{k:04d}.png")
        os.replace(frames, folder)  # takes the place of an empty folder


def _write_h264(pixels: np.ndarray, path: Path, fps: float) -> list[str]:
    import imageio.v2 as imageio
    import imageio_ffmpeg

    path = os.path.abspath(path)  # ffmpeg takes a:b.mp4 for a protocol
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    how = {"codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 1, "quality": None, "output_params": H264}
    with imageio.get_writer(path, format="FFMPEG", fps=fps, **how) as writer:
        for frame in padded:
            writer.append_data(frame)
    try:
        count, _ = imageio_ffmpeg.count_frames_and_secs(path)
    except (RuntimeError, OSError):
        count = 0
    if count != len(pixels):  # ffmpeg ends without a word to imageio when the disk is full
        raise OSError(f"ffmpeg wrote {count} of {len(pixels)} frames")
    if padded.shape == pixels.shape:
        return []
    return [f"H.264 needs even sides: {width}x{height} was padded to {padded.shape[2]}x{padded.shape[1]}."]
