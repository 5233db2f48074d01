"""Images in: files and PIL images become float tensors [N,3,H,W] in [0,1], and every adaptation is noted."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from interp_lib.checks import check_int, check_size
from interp_lib.decoding import decode, reading

MIN_SIDE = 8  # px; below this there is not one latent pixel


def open_image(path: str | Path | io.BytesIO, *, name: str = "image") -> tuple[Tensor, list[str]]:
    """Read an image as [1,3,H,W] float32 in [0,1], with one note per adaptation (rotation, colours, bit depth).

    path: a file, or the bytes of one, which notes and errors call `name`. Colours are converted to sRGB where a profile
    says otherwise. Raises FileNotFoundError for a missing file, ValueError for one that is no image, is cut short, is
    too small or too large to be decoded safely.
    """
    if not isinstance(path, (str, os.PathLike, io.BytesIO)):
        raise ValueError(f"{path!r} is no path of an image: give the name of a file.")
    if not isinstance(path, io.BytesIO):
        path = os.path.expanduser(path)
        name = str(path)
        if os.path.isdir(path):
            raise ValueError(f"{path} is a folder, not an image: name one file.")
        if not os.path.isfile(path):  # (Path.is_file raises for a name that is too long)
            raise FileNotFoundError(f"{path} does not exist: give the path of an image file.")
    with reading(name):
        image = Image.open(path)
    with image:
        return _from_pil(image, name)


def as_images(x: Tensor | Image.Image, *, name: str = "image", notes: list[str] | None = None) -> Tensor:
    """Check images and return them as [N,3,H,W] float32 in [0,1].

    x: a tensor [3,H,W] or [N,3,H,W], or a PIL image; errors call it `name`. A tensor keeps its device and gradient;
    values a rounding error (1e-3) outside the range are clamped. notes: receives what was adapted in a PIL image.
    Raises ValueError for another type or shape, for NaN, for values outside [0,1] and for a side below 8 px.
    """
    if isinstance(x, Image.Image):
        x, adapted = _from_pil(x, name)
        (notes if notes is not None else []).extend(adapted)
        return x
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is of type {type(x).__name__}: give a tensor [N,3,H,W] in [0,1] or a PIL image.")
    if x.ndim not in (3, 4) or x.shape[-3] != 3 or x.numel() == 0:
        raise ValueError(f"{name} has shape {list(x.shape)}: images are [3,H,W] or [N,3,H,W], three colour channels.")
    if not x.is_floating_point():
        raise ValueError(f"{name} holds {x.dtype} values: images are floats in [0,1], so divide by 255 first.")
    x = x.float()
    _check_side(x.shape[-2], x.shape[-1], name)
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name} contains NaN or infinite values: images are finite numbers in [0,1].")
    low, high = float(x.detach().min()), float(x.detach().max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"{name} has values from {low:.3g} to {high:.3g}: images are in [0,1], so rescale them first.")
    x = x.clamp(0, 1) if low < 0 or high > 1 else x
    return x if x.ndim == 4 else x[None]


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Convert bytes [H,W,3] to [1,3,H,W] float32 in [0,1]; the array, which may be read-only, is copied."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def to_pil(frame: Tensor) -> Image.Image:
    """Convert one frame [3,H,W] or [1,3,H,W] in [0,1] to an 8-bit RGB PIL image, rounded to nearest."""
    x = as_images(frame.detach(), name="frame")
    if len(x) != 1:
        raise ValueError(f"frame holds {len(x)} images: pass one at a time.")
    return Image.fromarray((x[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy())


@dataclass(frozen=True)
class Fit:
    """An aspect-keeping resize to `resized` followed by a centre crop of `size`; all pairs are (h, w)."""

    source: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    def crop(self, x: Tensor) -> Tensor:
        """Cut [..., h, w] out of [..., resized h, resized w]."""
        top, left = (self.resized[0] - self.size[0]) // 2, (self.resized[1] - self.size[1]) // 2
        return x[..., top : top + self.size[0], left : left + self.size[1]]

    def images(self, x: Tensor) -> Tensor:
        """Resize and crop images [N,3,H,W] in [0,1], antialiased."""
        if self.resized != self.source:
            x = F.interpolate(x, self.resized, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return self.crop(x)

    def notes(self) -> list[str]:
        """Say what is done, one sentence for the resize and one for the crop."""
        notes = []
        if self.resized != self.source:
            notes.append(f"resized from {_wxh(self.source)} to {_wxh(self.resized)} pixels (width x height)")
        if self.size != self.resized:
            share = math.prod(self.size) / math.prod(self.resized)
            cut = f", {share:.0%} of the picture" if share < 0.9 else ""
            notes.append(f"centre crop from {_wxh(self.resized)} to {_wxh(self.size)} pixels (width x height){cut}")
        return notes


def plan_fit(height: int, width: int, *, size: int | tuple[int, int] | None = None, multiple: int = 8) -> Fit:
    """Plan how an image is resized and cropped to `size` (int = square, or (h, w)), reduced to a multiple.

    With size=None nothing is resampled, only the edges are cropped.
    """
    least = max(MIN_SIDE, check_int("multiple", multiple, 1))
    if size is None and min(height, width) < least:
        raise ValueError(f"the image is {width}x{height} pixels: a side needs at least {least}, so give size=.")
    wanted = (height, width) if size is None else check_size("size", size, least)
    h, w = (side // multiple * multiple for side in wanted)
    scale = 1.0 if size is None else max(h / height, w / width)
    return Fit((height, width), (max(h, round(height * scale)), max(w, round(width * scale))), (h, w))


def fit_images(
    images: Tensor, *, size: int | tuple[int, int] | None = None, multiple: int = 8
) -> tuple[Tensor, list[str]]:
    """Resize images [N,3,H,W] to cover `size`, antialiased and with their aspect kept, and crop them at the centre.

    size: int = square, (h, w), or None = the images' own size cropped down to the multiple. Returns the images and one
    note per thing done. Raises ValueError for a size that is no whole number of pixels or lies below one multiple.
    """
    images = as_images(images)
    fit = plan_fit(*images.shape[-2:], size=size, multiple=multiple)
    notes = fit.notes()
    if size is not None and (wanted := check_size("size", size, MIN_SIDE)) != fit.size:
        notes.insert(0, f"size {_wxh(wanted)} brought down to {_wxh(fit.size)}, a multiple of {multiple}")
    return fit.images(images), notes


def area_size(height: int, width: int, *, side: int, multiple: int = 8) -> tuple[int, int]:
    """Return (h, w) of about side*side pixels with the aspect of height x width, both multiples of `multiple`.

    Where multiples are so coarse that a crop to this would lose over a quarter of the picture, as of a panorama, the
    area grows. Raises ValueError for anything but positive whole numbers.
    """
    height, width = check_size("(height, width)", (height, width), 1)
    side, multiple = check_int("side", side, 1), check_int("multiple", multiple, 1)
    aspect = math.sqrt(height / width)
    h, w = (max(1, round(n / multiple)) * multiple for n in (side * aspect, side / aspect))

    def retained(size: tuple[int, int]) -> float:  # share of the picture inside the crop
        ratio = size[0] * width / (size[1] * height)
        return min(ratio, 1 / ratio)

    if retained((h, w)) >= 0.75:
        return h, w
    shorter, exact = min(h, w), min(h, w) * max(aspect, 1 / aspect) ** 2 / multiple
    sides = [max(1, n) * multiple for n in (math.floor(exact), math.ceil(exact))]  # the longer one suits the shorter
    return max(((n, shorter) if height > width else (shorter, n) for n in sides), key=retained)


def prepare_pair(
    images: Sequence[Tensor | Image.Image],
    *,
    size: int | tuple[int, int] | None = None,
    native_size: int,
    multiple: int,
    names: Sequence[str] | None = None,
) -> tuple[list[Tensor], list[str]]:
    """Resize the keyframes of one run, two or more, to one size that the model takes; every entry point does it so.

    images: one image each, tensors or PIL images; a later one of another size is fitted to the first. size: int =
    square, or (h, w), px. None is the first image's own size, or about native_size*native_size pixels of its aspect
    where it is larger; sides that are no multiples of `multiple` are resized to the nearest ones. names: what notes and
    errors call the images. Returns the images [1,3,H,W] on the first one's device, and what was done to them. Raises
    ValueError for batches, identical neighbours, and a size below one multiple.
    """
    notes: list[str] = []
    names = names or [f"image{k}" for k in range(len(images))]
    listed = [as_images(x, name=name, notes=notes) for name, x in zip(names, images, strict=True)]
    height, width = listed[0].shape[-2:]
    if size is None and (height % multiple or width % multiple or height * width > native_size**2):
        side = min(round((height * width) ** 0.5), native_size)
        size = area_size(height, width, side=side, multiple=multiple)
    prepared = []
    for name, x in zip(names, listed, strict=True):
        if len(x) != 1:
            raise ValueError(f"{name} is a batch of {len(x)}: give one image for each keyframe.")
        if x.shape != listed[0].shape:
            notes.append(f"{name} is {_wxh(x.shape[-2:])} pixels and {names[0]} {_wxh((height, width))}: fitted to it")
        fitted, adapted = fit_images(x, size=(height, width) if size is None else size, multiple=multiple)
        prepared.append(fitted.to(listed[0].device))
        notes += [note for note in adapted if note not in notes]
    for (before, a), (after, b) in pairwise(zip(names, prepared, strict=True)):
        if torch.equal(a, b):
            raise ValueError(f"{before} and {after} are identical, nothing lies between: give two different images.")
    return prepared, notes


def _from_pil(image: Image.Image, name: str) -> tuple[Tensor, list[str]]:
    _check_side(image.height, image.width, name)
    with reading(name):
        image, notes = decode(image, name)
    if image.mode == "RGB":
        return from_bytes(np.asarray(image)), notes
    # Grey of more than 8 bits is converted without loss: integers count to 65535, floats are taken as they are.
    values = torch.from_numpy(np.array(image).astype(np.float32))
    values = values if image.mode == "F" else values / 65535
    notes.append(f"{name}: {'floating-point' if image.mode == 'F' else '16-bit'} grey image converted to RGB")
    return as_images(values.expand(3, -1, -1), name=name).contiguous(), notes


def _check_side(height: int, width: int, name: str) -> None:
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{name} is {width}x{height} pixels: at least {MIN_SIDE} are needed, use a larger image.")


def _wxh(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
