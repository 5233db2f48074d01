"""Which files of a folder are images, in natural order, and which are skipped."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

# formats that Pillow recognises but does not decode by itself
_STUBS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, such as ".png", of every kind of image that Pillow reads here; .heic with pillow-heif installed."""
    if find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    kinds = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in kinds if kind in Image.OPEN and kind not in _STUBS)


def image_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder in natural order, and one note that names the files that are skipped, if there are any.

    Hidden files and folders are neither.
    """
    files = sorted((p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")), key=natural_order)
    images = [file for file in files if file.suffix.lower() in image_suffixes()]
    skipped = [file.name for file in files if file not in images]
    names = ", ".join(skipped[:5]) + (f" and {len(skipped) - 5} more" if len(skipped) > 5 else "")
    hint = (
        " (pip install pillow-heif reads HEIC)" if any(n.lower().endswith((".heic", ".heif")) for n in skipped) else ""
    )
    return images, [f"{folder.name}: skipped {names}, no image that Pillow reads here{hint}"] if skipped else []


def natural_order(path: Path) -> list[int | str]:
    """A sort key that puts 2.png before 10.png."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]
