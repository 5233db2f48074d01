"""Which files of a folder are torn, and what a folder holds apart from clock times."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import nbformat
import torch
from PIL import Image
from safetensors.torch import load_file

TIMES = ("seconds",)  # no two runs share them


def is_temporary(path: Path) -> bool:
    return re.fullmatch(r"\..*\.\d+\.tmp(\.\w+)?", path.name) is not None


def torn(folder: Path) -> list[str]:
    """The files with a final name that cannot be read to their end."""
    bad = []
    for path in sorted(folder.rglob("*")):
        reader = READERS.get(path.suffix)
        if reader and path.is_file() and not is_temporary(path) and not _in_the_making(path.relative_to(folder)):
            try:
                reader(path)
            except FileNotFoundError:
                pass  # by a process that is just being ended
            except Exception as error:
                bad.append(f"{path.relative_to(folder)}: {type(error).__name__}")
    return bad


def _in_the_making(path: Path) -> bool:
    """By its name: a model's folder, a notebook that has not run to its end."""
    return any(part.endswith((".partial", ".failed.ipynb")) for part in path.parts)


def contents(folder: Path) -> dict[str, Any]:
    """Relative name -> what is in the file, of all files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    found = {str(path.relative_to(folder)): path for path in files}
    return {name: _content(path) for name, path in found.items()}


def _content(path: Path) -> Any:
    reader = READERS.get(path.suffix) if path.suffix in (".json", ".jsonl", ".pt", ".checkpoint", ".ipynb") else None
    return reader(path) if reader else path.read_bytes()


def _json(path: Path) -> Any:
    return _timeless(json.loads(path.read_text()))


def _lines(path: Path) -> list[Any]:
    return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]


def _timeless(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in TIMES} if isinstance(value, dict) else value


def _state(path: Path) -> str:
    """A hash of every value in it: the bytes of such a file depend on its temporary name."""
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(
                f"{value.dtype} {tuple(value.shape)}".encode() + value.detach().contiguous().numpy().tobytes()
            )
        elif isinstance(value, dict):
            take([item for pair in value.items() for item in pair])
        elif isinstance(value, (list, tuple)):
            for item in value:
                take(item)
        else:
            digest.update(repr(value).encode())

    take(torch.load(path, weights_only=True))
    return digest.hexdigest()


def _notebook(path: Path) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)
    cells = [(cell.source, cell.get("outputs")) for cell in notebook.cells if "injected" not in str(cell.metadata)]
    return [cells, notebook.metadata.get("interp")]


def _csv(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert lines and lines[-1].endswith("\n")


def _picture(path: Path) -> None:
    with Image.open(path) as image:
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            image.load()


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _json,
    ".jsonl": _lines,
    ".pt": _state,
    ".checkpoint": _state,
    ".ipynb": _notebook,
    ".csv": _csv,
    ".safetensors": load_file,
    ".png": _picture,
    ".gif": _picture,
    ".webp": _picture,
    ".mp4": lambda path: iio.imread(path),
}
