"""Data sets of your own: folders in three layouts, each checked before anything is read.

pairs:FOLDER    like InterpBench, two photographs a pair and no truth: either FOLDER/PAIR/ with exactly two images each,
                in natural order of their names, or FOLDER/PAIR_0.png and FOLDER/PAIR_1.png side by side.
davis:FOLDER    DAVIS as it unpacks: FOLDER/JPEGImages/480p/SEQUENCE/00000.jpg, 00001.jpg, ... without a gap.
pexels:FOLDER   videos side by side: FOLDER/VIDEO.mp4 (or .mov .avi .mkv .webm .m4v .gif).

A case is SET:FOLDER:ITEM with the pair, the sequence or the video's file name as ITEM. FOLDER may contain colons, since
it is what lies between the first colon and the last; an ITEM may not. A sequence's or video's first keyframe is its
first frame, the last one lies `frames.spacing` further on, and the true frames between are equally spaced. Hidden files
are overlooked, and so are files of other kinds beside pairs and videos (a licence, a list of prompts). A sequence that
is too short is listed all the same, and refused when it is loaded: how long it must be depends on `frames`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from interp_lib.bench.cases import Case
from interp_lib.bench.datasets.frames import MULTIPLE, brought_down, clip_case, spacing, thinned
from interp_lib.images import MIN_SIDE, fit_images
from interp_lib.pairs.folders import image_suffixes
from interp_lib.pairs.load import load_pair
from interp_lib.pairs.videos import VIDEO_SUFFIXES, natural_order, read_pictures

TREES = {
    "pairs": "FOLDER/PAIR/ with exactly two images, or FOLDER/PAIR_0.png and FOLDER/PAIR_1.png",
    "davis": "FOLDER/JPEGImages/480p/SEQUENCE/00000.jpg, 00001.jpg, ...",
    "pexels": f"FOLDER/VIDEO.mp4 (or {' '.join(VIDEO_SUFFIXES[1:])})",
}


def list_names(spec: str) -> list[str]:
    """Names of all pairs, sequences or videos of a folder, in natural order.

    Raises FileNotFoundError for a folder that is not there, and ValueError, which shows the layout, for another one.
    """
    kind, _, rest = spec.partition(":")
    rest = rest.rstrip("/") or rest  # one folder, one set of names
    folder, _, item = rest.rpartition(":")
    if folder and not _path(rest).is_dir() and _path(folder).is_dir():
        _find(kind, folder, item)
        return [spec]
    return [f"{kind}:{rest}:{item}" for item in _items(kind, rest)]


def load(name: str, *, frames: int, size: int | tuple[int, int] | None) -> Case:
    """The case of one pair, sequence or video; `frames` does not matter to a pair, which has no true frames.

    tags of a sequence or video: "distance" of its keyframes in frames. Raises ValueError for files that cannot be read,
    images of different sizes, identical keyframes, and too few frames.
    """
    kind, _, rest = name.partition(":")
    folder, _, item = rest.rpartition(":")
    if not folder:
        raise ValueError(f"{name!r} is no case: give {kind}:FOLDER:ITEM, as list_cases({kind + ':FOLDER'!r}) does.")
    found = _find(kind, folder, item)
    if isinstance(found, tuple):
        return _load_pair(name, found, size)
    distance, step = spacing(frames)
    pictures = thinned(read_pictures(found), distance=distance, step=step, source=str(found))
    notes = [f"{name}: keyframes are its frames 0 and {distance}, every {step}. of them between is true"]
    return clip_case(name, pictures, size=size, notes=notes, tags={"distance": distance})


def _load_pair(name: str, files: tuple[Path, Path], size: int | tuple[int, int] | None) -> Case:
    sides, notes = brought_down(size, None, least=MIN_SIDE)
    pair = load_pair(files, size=sides)
    images, said = fit_images(torch.cat([pair.image0, pair.image1]), multiple=MULTIPLE)
    notes = [*pair.notes, *(f"{name}: {note}" for note in [*notes, *said])]
    return Case(replace(pair, name=name, image0=images[:1], image1=images[1:], notes=notes))


def _path(folder: str) -> Path:
    return Path(os.path.expanduser(folder))


def _find(kind: str, folder: str, item: str) -> Path | tuple[Path, Path]:
    items = _items(kind, folder)
    if item not in items:
        known = ", ".join(list(items)[:5]) + (", ..." if len(items) > 5 else "")
        raise ValueError(f"{folder} has no {item!r}: it holds {known}.")
    return items[item]


def _items(kind: str, folder: str) -> dict[str, Path | tuple[Path, Path]]:
    """What the folder holds, by name; ValueError for another layout."""
    path = _path(folder)
    if not folder or not path.exists():
        raise FileNotFoundError(f"{folder!r} is not there: {kind}:FOLDER needs {TREES[kind]}.")
    if not path.is_dir():
        raise _wrong(kind, path, "is a file")
    items = _LAYOUTS[kind](path)
    for item in items:
        if ":" in item:
            raise ValueError(
                f"{path} holds {item!r}: a name with a colon in it cannot be told from a folder, rename it."
            )
    return items


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_order)


def _images(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.is_file() and path.suffix.lower() in image_suffixes()]


def _wrong(kind: str, path: Path, what: str) -> ValueError:
    return ValueError(f"{path} {what}: {kind}:FOLDER needs {TREES[kind]}.")


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    inside = _visible(folder)
    folders, images = [path for path in inside if path.is_dir()], _images(inside)
    if folders and images:
        raise _wrong("pairs", folder, f"holds folders and images side by side ({folders[0].name}, {images[0].name})")
    if not folders and not images:
        raise _wrong("pairs", folder, "holds neither folders nor images")
    return _side_by_side(folder, images) if images else {path.name: _two(path) for path in folders}


def _two(folder: Path) -> tuple[Path, Path]:
    images = _images(_visible(folder))
    if len(images) != 2:
        raise _wrong("pairs", folder, f"holds {len(images)} image(s)")
    return images[0], images[1]


def _side_by_side(folder: Path, images: list[Path]) -> dict[str, tuple[Path, Path]]:
    ends: dict[str, dict[str, Path]] = defaultdict(dict)
    for image in images:
        found = re.fullmatch("(.+)_([01])", image.stem)
        if not found:
            raise _wrong("pairs", image, "is named neither PAIR_0 nor PAIR_1")
        name, end = found[1], found[2]
        if end in ends[name]:
            raise _wrong("pairs", folder, f"holds both {ends[name][end].name} and {image.name}")
        ends[name][end] = image
    for name, files in ends.items():
        for end in "01":
            if end not in files:
                raise _wrong("pairs", folder, f"has no {name}_{end} beside {files[str(1 - int(end))].name}")
    return {name: (files["0"], files["1"]) for name, files in ends.items()}


def _davis(folder: Path) -> dict[str, Path]:
    root = folder / "JPEGImages" / "480p"
    if not root.is_dir():
        raise _wrong("davis", folder, "has no folder JPEGImages/480p")
    inside = _visible(root)
    stray = next((path for path in inside if not path.is_dir()), None)
    if stray:
        raise _wrong("davis", stray, "lies among the sequences")
    if not inside:
        raise _wrong("davis", root, "holds no sequence")
    return {sequence.name: _numbered(sequence) for sequence in inside}


def _numbered(sequence: Path) -> Path:
    """The sequence, whose frames are numbered without a gap: the true frames between must be equally spaced."""
    files = _visible(sequence)
    if not files:
        raise _wrong("davis", sequence, "holds no frame")
    for file in files:
        if not re.fullmatch(r"[0-9]+\.jpe?g", file.name, re.IGNORECASE):
            raise _wrong("davis", file, "is no numbered JPEG frame")
    numbers = [int(file.stem) for file in files]
    for before, number in zip(numbers, numbers[1:], strict=False):
        if number != before + 1:
            raise _wrong("davis", sequence, f"goes from frame {before} to frame {number}")
    return sequence


def _pexels(folder: Path) -> dict[str, Path]:
    inside = _visible(folder)
    videos = [path for path in inside if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES]
    nested = next((path for path in inside if path.is_dir()), None)
    if nested:
        raise _wrong("pexels", nested, "is a folder among the videos")
    if not videos:
        raise _wrong("pexels", folder, "holds no video")
    return {path.name: path for path in videos}


_LAYOUTS: dict[str, Callable[[Path], dict]] = {"pairs": _pairs, "davis": _davis, "pexels": _pexels}
