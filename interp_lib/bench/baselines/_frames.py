"""Frames on their way to another tool and back: files, sizes that a network takes, and how many of them there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.images import open_image, to_pil
from interp_lib.pairs.videos import natural_order, read_pictures
from interp_lib.types import Interpolation, Pair


def between_ends(pair: Pair, middle: Tensor, *, calls: int = 0, notes: Sequence[str] = ()) -> Interpolation:
    """Frames [n,3,H,W] between the pair's own images, clamped to [0,1], on the CPU; calls: of a denoising network."""
    middle = middle.detach().float().cpu().clamp(0, 1)
    frames = torch.cat([pair.image0.cpu(), middle, pair.image1.cpu()])
    return Interpolation(frames=frames, latents=frames.new_empty(0), unet_calls=calls, notes=list(notes))


def pad_to(
    images: Tensor, multiple: int, *, least: int = 0, mode: str = "constant", centred: bool = True
) -> tuple[Tensor, Callable[[Tensor], Tensor], list[str]]:
    """[N,C,H,W] padded to a multiple of `multiple` and at least `least` px a side; what cuts that off again; a note.

    mode: "constant" (zeros) or "replicate". centred: on all sides, else right and below only.
    """
    height, width = images.shape[-2:]
    down, right = (max(least, -(-side // multiple) * multiple) - side for side in (height, width))
    top, left = (down // 2, right // 2) if centred else (0, 0)
    padded = F.pad(images, (left, right - left, top, down - top), mode=mode)
    (h, w), content = padded.shape[-2:], "zeros" if mode == "constant" else "edge pixels"
    notes = [f"padded from {width}x{height} to {w}x{h} pixels by {content}, and cut again"] if down or right else []
    return padded, lambda x: x[..., top : top + height, left : left + width], notes


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[N,3,H,W] in [0,1] brought to (h, w), antialiased; unchanged where they have that size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def nearest(made: int, frames: int) -> list[int]:
    """Which of `made` frames, ends included, lie nearest to i/(frames+1) for i = 1..frames, the earlier one of two.

    The ends themselves are never taken. Raises ValueError when nothing lies between them.
    """
    if made < 3:
        raise ValueError(f"{made} frames were made: with nothing between the ends there is nothing to choose from.")
    places = (-(-(2 * i * (made - 1) - frames - 1) // (2 * (frames + 1))) for i in range(1, frames + 1))
    return [min(max(place, 1), made - 2) for place in places]


def say_nearest(made: int, frames: int) -> list[str]:
    """One note on what `nearest` did, none where every frame made is used once."""
    if made == frames + 2:
        return []
    repeated = frames - len(set(nearest(made, frames)))
    again = f", {repeated} of them twice or more often" if repeated else ""
    return [f"{made} frames made, ends included, and the {frames} nearest in time taken between them{again}"]


def frame_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The visible files of a folder with these suffixes, in natural order (2.png before 10.png)."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()]
    return sorted(found, key=natural_order)


def read_files(files: Sequence[Path]) -> tuple[Tensor, list[str]]:
    """Image files of one size as [T,3,H,W] in [0,1], and what was adapted; ValueError for sizes that differ."""
    images, notes = [], []
    for file in files:
        image, said = open_image(file)
        if images and image.shape != images[0].shape:
            (h, w), (h0, w0) = image.shape[-2:], images[0].shape[-2:]
            raise ValueError(f"{file} is {w}x{h} pixels and {files[0].name} is {w0}x{h0}: bring all to one size.")
        images.append(image)
        notes += [note.removeprefix(f"{file}: ") for note in said]
    return torch.cat(images), list(dict.fromkeys(notes))


def read_video(file: Path) -> Tensor:
    """Every frame of a video, [T,3,H,W] in [0,1]; ValueError for a file that cannot be decoded."""
    frames = list(read_pictures(file))
    if not frames:
        raise ValueError(f"{file} has no frames: write PNG files instead.")
    return torch.cat(frames)


def write_png(image: Tensor, file: Path) -> None:
    """One image [1,3,H,W] in [0,1] as a PNG, 8 bits a channel."""
    to_pil(image).save(file)
