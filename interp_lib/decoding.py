"""Decode pictures as their files mean them: upright, on white, in sRGB; everything that was adapted is noted."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageCms, ImageOps

_EXIF_ORIENTATION = 0x0112


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what Pillow raises while it reads or converts an image into one sentence."""
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


def decode(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """Decode an image upright, to RGB or to grey of more than 8 bits, and say what was done to it."""
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"{name}: the first of {image.n_frames} frames is used")
    tiles = getattr(image, "tile", None)
    sixteen = bool(tiles) and "16" in str(tiles[0][3])  # such as RGB;16B, of which Pillow keeps the high byte
    image.load()
    if image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1):
        image = ImageOps.exif_transpose(image)
        notes.append(f"{name}: rotated upright as its EXIF orientation says")
    mode, profile = image.mode, image.info.get("icc_profile")
    if mode in ("I", "F") or mode.startswith("I;16"):
        return image, notes
    if "A" in mode or "a" in mode or "transparency" in image.info:  # LA, PA, RGBa, or a transparent colour
        image = image.convert("RGBA")
        opaque = image.getextrema()[3][0] == 255
        notes.append(f"{name}: {'opaque alpha channel dropped' if opaque else 'transparency composited on white'}")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    kinds = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette"}
    if mode not in ("RGB", "RGBA"):
        notes.append(f"{name}: {kinds.get(mode, mode)} image converted to RGB")
    if sixteen:
        notes.append(f"{name}: 16 bits per channel reduced to 8")
    if profile:
        image, adapted = _to_srgb(image, profile)
        notes += [f"{name}: {note}" for note in adapted]
    return image.convert("RGB"), notes


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
    """Convert an image from its embedded colour profile to sRGB; return it and a note, none where it is sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        described = ImageCms.getProfileDescription(source).strip()
        if described.startswith("sRGB"):
            return image, []
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        if image.mode != "CMYK":  # such as a palette, whose colours the profile describes
            image = image.convert(mode)
        srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
        converted = ImageCms.profileToProfile(image, source, srgb, renderingIntent=intent, outputMode="RGB")
        return converted, [f"colours converted from the profile {described!r} to sRGB"]
    except (ImageCms.PyCMSError, KeyError, OSError):
        return image, ["its colour profile cannot be used, so the colours are taken as sRGB"]
