"""Data sets of your own: folders in three layouts, each checked before anything is read.

A case is SET:FOLDER:ITEM with the pair, the sequence or the video's file name as ITEM; neither may contain a colon. The
first keyframe of a sequence or video is its first frame, the last one lies `cases.spacing` further on. Hidden files and
files of other kinds are ignored. A sequence that is too short is refused when it is loaded: how long it must be depends
on `frames`.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

import torch

from interp_lib.bench.cases import MULTIPLE, Case, Size, clip_case, round_down
from interp_lib.images import MIN_SIDE, fit_images
from interp_lib.pairs.load import load_pair
from interp_lib.pairs.videos import VIDEO_SUFFIXES, image_files, natural_order

LAYOUTS = {
    "pairs": "FOLDER/PAIR/ with exactly two images, or FOLDER/PAIR_0.png and FOLDER/PAIR_1.png",
    "davis": "FOLDER/JPEGImages/480p/SEQUENCE/00000.jpg, 00001.jpg, ...",
    "pexels": f"FOLDER/VIDEO.mp4 (or {' '.join(VIDEO_SUFFIXES[1:])})",
}


def list_names(spec: str) -> list[str]:
    """Return the names of all pairs, sequences or videos of a folder, in natural order.

    Raises FileNotFoundError for a folder that is not there, and ValueError, which shows the layout, for another one.
    """
    kind, folder, item = _parse(spec)
    if item:
        _find_item(kind, folder, item)
        return [spec]
    return [f"{kind}:{folder}:{item}" for item in _items(kind, folder)]


def load(name: str, *, frames: int, size: Size) -> Case:
    """Return the case of one pair, sequence or video; a pair has no true frames, so `frames` does not matter to it.

    Raises ValueError for files that cannot be read, images of different sizes, identical keyframes, and too few frames.
    """
    kind, folder, item = _parse(name)
    files = _find_item(kind, folder, item)
    if kind != "pairs":
        return clip_case(name, files[0], frames=frames, size=size)
    sides, notes = (None, []) if size is None else round_down(size, least=MIN_SIDE)
    pair = load_pair(files, size=sides)
    images, cropped = fit_images(torch.cat([pair.image0, pair.image1]), multiple=MULTIPLE)
    notes = [*pair.notes, *(f"{name}: {note}" for note in [*notes, *cropped])]
    return Case(replace(pair, name=name, image0=images[:1], image1=images[1:], notes=notes))


def _parse(spec: str) -> tuple[str, str, str]:
    kind, folder, item = [*spec.split(":", 2), "", ""][:3]
    return kind, folder.rstrip("/") or folder, item  # one folder, one set of names


def _items(kind: str, folder: str) -> dict[str, list[Path]]:
    """Return the files of each item of a folder, by name: two images, or the one folder or video of its frames."""
    path = Path(os.path.expanduser(folder))
    if not folder or not path.is_dir():
        raise FileNotFoundError(f"the folder {folder!r} is not there: {kind}:FOLDER needs {LAYOUTS[kind]}.")
    return {"pairs": _pairs, "davis": _davis, "pexels": _pexels}[kind](path)


def _find_item(kind: str, folder: str, item: str) -> list[Path]:
    items = _items(kind, folder)
    if item not in items:
        known = ", ".join(list(items)[:5]) + (", ..." if len(items) > 5 else "")
        raise ValueError(f"{folder} has no {item!r}: it holds {known}.")
    return items[item]


def _pairs(folder: Path) -> dict[str, list[Path]]:
    """Return the two images of each pair, in a folder of its own or named PAIR_0 and PAIR_1."""
    pairs = {path.name: image_files(path)[0] for path in _visible(folder) if path.is_dir()}
    for image in image_files(folder)[0]:
        parts = re.fullmatch("(.+)_([01])", image.stem)
        if not parts:
            raise _wrong("pairs", image, "is named neither PAIR_0 nor PAIR_1")
        pairs.setdefault(parts[1], []).append(image)
    if not pairs:
        raise _wrong("pairs", folder, "holds neither folders nor images")
    for name, files in pairs.items():
        if len(files) != 2 or (files[0].parent == folder and files[0].stem == files[1].stem):
            raise _wrong("pairs", folder / name, f"has {len(files)} image(s): {', '.join(x.name for x in files)}")
    return pairs


def _davis(folder: Path) -> dict[str, list[Path]]:
    """Return the folders of frames that are numbered without a gap: true frames must be equally spaced."""
    root = folder / "JPEGImages" / "480p"
    sequences = [path for path in _visible(root) if path.is_dir()] if root.is_dir() else []
    if not sequences:
        raise _wrong("davis", folder, "has no sequence in JPEGImages/480p")
    for sequence in sequences:
        last = None
        for file in _visible(sequence):
            if not re.fullmatch(r"[0-9]+\.jpe?g", file.name, re.IGNORECASE):
                raise _wrong("davis", file, "is no numbered JPEG frame")
            if last is not None and int(file.stem) != last + 1:
                raise _wrong("davis", sequence, f"goes from frame {last} to frame {int(file.stem)}")
            last = int(file.stem)
    return {sequence.name: [sequence] for sequence in sequences}


def _pexels(folder: Path) -> dict[str, list[Path]]:
    videos = [path for path in _visible(folder) if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise _wrong("pexels", folder, "holds no video")
    return {path.name: [path] for path in videos}


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_order)


def _wrong(kind: str, path: Path, what: str) -> ValueError:
    return ValueError(f"{path} {what}: {kind}:FOLDER needs {LAYOUTS[kind]}.")
