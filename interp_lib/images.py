"""Images in: files and PIL images become float tensors [N,3,H,W] in [0,1], and what was adapted on the way is said."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from interp_lib.checks import check_int, check_size

MIN_SIDE = 8  # px; below this there is not one latent pixel
_EXIF_ORIENTATION = 0x0112


def open_image(path: str | Path) -> tuple[Tensor, list[str]]:
    """Read an image file as [1,3,H,W] float32 in [0,1], with one note per adaptation (rotation, colour, bit depth).

    Raises FileNotFoundError for a missing file and ValueError for one that is no image, is cut short, is too small or
    too large to be decoded safely.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"{path!r} is no path of an image: give the name of a file.")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, not an image: name one file.")
    if not os.path.isfile(path):  # (Path.is_file raises for a name that is too long)
        raise FileNotFoundError(f"{path} does not exist: give the path of an image file.")
    with _reading(str(path)):
        image = Image.open(path)
    with image:
        return _from_pil(image, str(path))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What Pillow raises while it reads or converts an image, as one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # by default twice the limit is let through
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(f"{name} has more than {limit} million pixels: make it smaller first.") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name} is not an image that Pillow can read: use PNG, JPEG or WebP.") from None
    except MemoryError:
        raise
    except Exception as error:  # what a damaged file sets off is not foreseeable
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} cannot be read as an image ({said}): it may be damaged, save it again.") from None


def as_images(x: Tensor | Image.Image, *, name: str = "image", notes: list[str] | None = None) -> Tensor:
    """Images as [N,3,H,W] float32 in [0,1], from a tensor [3,H,W] or [N,3,H,W] or a PIL image; `name` is for errors.

    `notes`, where given, receives what was adapted in a PIL image. A tensor keeps its device and gradient; values a
    rounding error (1e-3) outside the range are clamped.
    Raises ValueError for another type or shape, for NaN, for values outside [0,1] and for a side below 8 px.
    """
    if isinstance(x, Image.Image):
        x, said = _from_pil(x, name)
        if notes is not None:
            notes.extend(said)
        return x
    if not isinstance(x, Tensor):
        kind = type(x).__name__
        raise ValueError(f"{name} is of type {kind}: give a tensor [N,3,H,W] in [0,1] or a PIL image.")
    shape = list(x.shape)
    if x.ndim not in (3, 4) or x.shape[-3] != 3 or x.numel() == 0:
        raise ValueError(
            f"{name} has shape {shape}: images are tensors [3,H,W] or [N,3,H,W] with three colour channels."
        )
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
    """[1,3,H,W] float32 in [0,1] from bytes [H,W,3]; the array, which may be read-only, is copied."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def to_pil(frame: Tensor) -> Image.Image:
    """One frame [3,H,W] or [1,3,H,W] in [0,1] as an 8-bit RGB PIL image, rounded to nearest."""
    x = as_images(frame.detach(), name="frame")
    if len(x) != 1:
        raise ValueError(f"frame holds {len(x)} images: pass one at a time.")
    return Image.fromarray((x[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy())


@dataclass(frozen=True)
class Fit:
    """An aspect-keeping resize to `resized` followed by the crop of `size` at (`top`, `left`); all pairs are (h, w)."""

    source: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    @property
    def top(self) -> int:
        return (self.resized[0] - self.size[0]) // 2

    @property
    def left(self) -> int:
        return (self.resized[1] - self.size[1]) // 2

    def crop(self, x: Tensor) -> Tensor:
        """Cut [..., h, w] out of [..., resized h, resized w]."""
        return x[..., self.top : self.top + self.size[0], self.left : self.left + self.size[1]]

    def images(self, x: Tensor) -> Tensor:
        """[N,3,H,W] in [0,1], antialiased."""
        if self.resized != self.source:
            x = F.interpolate(x, self.resized, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return self.crop(x)

    def notes(self) -> list[str]:
        said = []
        if self.resized != self.source:
            said.append(f"resized from {_wxh(self.source)} to {_wxh(self.resized)} pixels (width x height)")
        if self.size != self.resized:
            said.append(f"centre crop from {_wxh(self.resized)} to {_wxh(self.size)} pixels (width x height)")
        return said


def plan_fit(height: int, width: int, *, size: int | tuple[int, int] | None = None, multiple: int = 8) -> Fit:
    """How an image of height x width comes to `size` (int = square, (h, w), None = its own), a multiple of `multiple`.

    A size that is no multiple is brought down to one. With size=None nothing is resampled, only the edges are cropped.
    """
    own = size is None
    least = max(MIN_SIDE, check_int("multiple", multiple, 1))
    if own and min(height, width) < least:
        raise ValueError(f"the image is {width}x{height} pixels: a side needs at least {least}, so give size=.")
    target = (height, width) if own else check_size("size", size, least)
    target = (target[0] // multiple * multiple, target[1] // multiple * multiple)
    scale = 1.0 if own else max(target[0] / height, target[1] / width)
    resized = (max(target[0], round(height * scale)), max(target[1], round(width * scale)))
    return Fit((height, width), resized, target)


def fit_images(
    images: Tensor, *, size: int | tuple[int, int] | None = None, multiple: int = 8
) -> tuple[Tensor, list[str]]:
    """Bring images [N,3,H,W] to `size` by an aspect-keeping antialiased resize that covers it and a centre crop.

    size: int = square, (h, w), or None = the images' own size cropped down to the multiple. Returns the images and one
    note per thing done ([] when nothing was). Raises ValueError for a size that is no whole number of pixels or lies
    below one multiple.
    """
    images = as_images(images)
    fit = plan_fit(*images.shape[-2:], size=size, multiple=multiple)
    notes = fit.notes()
    if size is not None and (asked := check_size("size", size, MIN_SIDE)) != fit.size:
        notes.insert(0, f"size {_wxh(asked)} brought down to {_wxh(fit.size)}, a multiple of {multiple}")
    return fit.images(images), notes


def area_size(height: int, width: int, *, side: int, multiple: int = 8) -> tuple[int, int]:
    """(h, w) of about side*side pixels with the aspect of height x width, both multiples of `multiple`.

    Raises ValueError for anything but positive whole numbers.
    """
    height, width = check_size("(height, width)", (height, width), 1)
    side, multiple = check_int("side", side, 1), check_int("multiple", multiple, 1)
    aspect = math.sqrt(height / width)
    h, w = (max(1, round(n / multiple)) * multiple for n in (side * aspect, side / aspect))
    return h, w


def prepare_pair(
    images: Sequence[Tensor | Image.Image],
    *,
    size: int | tuple[int, int] | None = None,
    native_size: int,
    multiple: int,
    names: Sequence[str] = ("image0", "image1"),
) -> tuple[list[Tensor], list[str]]:
    """Bring the keyframes of one run to one size that the model takes: the one rule of every entry point.

    images: one image each, tensors or PIL images; a later one of another size is fitted to the first.
    size: int = square, or (h, w), px. None is the first image's own size, or about native_size*native_size pixels of
    its aspect where it is larger than that; sides that are no multiples of `multiple` are resized to the nearest ones.
    Returns the images [1,3,H,W] on the first one's device, and what was done to them.
    Raises ValueError for batches, identical images, and a size below one multiple.
    """
    notes: list[str] = []
    listed = [as_images(x, name=name, notes=notes) for name, x in zip(names, images, strict=True)]
    for name, x in zip(names, listed, strict=True):
        if len(x) != 1:
            raise ValueError(f"{name} is a batch of {len(x)}: give one image.")
    height, width = listed[0].shape[-2:]
    side = min(round((height * width) ** 0.5), native_size)
    if size is None and (height % multiple or width % multiple or height * width > native_size**2):
        size = area_size(height, width, side=side, multiple=multiple)
    prepared = []
    for name, x in zip(names, listed, strict=True):
        if x.shape != listed[0].shape:
            notes.append(f"{name} is {_wxh(x.shape[-2:])} pixels and {names[0]} {_wxh((height, width))}: fitted to it")
        same, fitted = fit_images(x, size=(height, width) if size is None else size, multiple=multiple)
        prepared.append(same.to(listed[0].device))
        notes += [note for note in fitted if note not in notes]
    for name, x in zip(names[1:], prepared[1:], strict=True):
        if torch.equal(prepared[0], x):
            raise ValueError(
                f"{names[0]} and {name} are identical: there is nothing between them, give two different images."
            )
    return prepared, notes


def _from_pil(image: Image.Image, name: str) -> tuple[Tensor, list[str]]:
    _check_side(image.height, image.width, name)
    with _reading(name):
        image, notes = _decoded(image, name)
    if image.mode != "RGB":
        return _from_deep_grey(image, name, notes)
    return from_bytes(np.asarray(image)), notes


def _decoded(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """The image upright, in RGB or in grey of more than 8 bits, and what was done to it."""
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"{name}: the first of {image.n_frames} frames is used")
    tiles = getattr(image, "tile", None)
    sixteen = bool(tiles) and "16" in str(tiles[0][3])  # such as RGB;16B, of which Pillow keeps the high byte
    image.load()
    if image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1):
        image = ImageOps.exif_transpose(image)
        notes.append(f"{name}: turned upright as its EXIF orientation says")
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return image, notes
    if "A" in mode or "a" in mode or "transparency" in image.info:  # LA, PA, RGBa, or a transparent colour
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            notes.append(f"{name}: transparency composited on white")
        else:
            notes.append(f"{name}: opaque alpha channel dropped")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    kinds = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette"}
    if mode not in ("RGB", "RGBA"):
        notes.append(f"{name}: {kinds.get(mode, mode)} image converted to RGB")
    if sixteen:
        notes.append(f"{name}: 16 bits per channel reduced to 8")
    return image.convert("RGB"), notes


def _from_deep_grey(image: Image.Image, name: str, notes: list[str]) -> tuple[Tensor, list[str]]:
    """Grey images of more than 8 bits keep their precision: integers count to 65535, floats are taken as they are."""
    values = torch.from_numpy(np.array(image).astype(np.float32))
    if image.mode != "F":
        values = values / 65535
    notes.append(f"{name}: {'floating-point' if image.mode == 'F' else '16-bit'} grey image converted to RGB")
    return as_images(values.expand(3, -1, -1), name=name).contiguous(), notes


def _check_side(height: int, width: int, name: str) -> None:
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"{name} is {width}x{height} pixels: at least {MIN_SIDE} pixels a side are needed, use a larger image."
        )


def _wxh(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
