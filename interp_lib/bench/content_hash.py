"""What a result depends on besides settings, as short hashes of content: weights, photographs, cases, files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.types import Pair

ROOT = Path(__file__).resolve().parents[2]
MODELS, PHOTOGRAPHS = ROOT / "data" / "models", ROOT / "data" / "photographs"
LARGE = 2**28  # bytes; a larger file is known by its size and time, hashing it would take minutes
IGNORED, RECOMMENDED = (".md", ".pyc"), ("settings.json",)  # what a model recommends is no part of its weights
RENDERED = ("world:", "world-easy:", "calm:")  # cases whose grounds are cut from the photographs


def content_hash(*parts: Any) -> str:
    """Return 16 hexadecimal digits that depend on the content of all parts, and on nothing else.

    parts: paths (files by their bytes, folders by the files in them, without Markdown and hidden files), tensors (by
    shape, dtype and values), dataclasses, dictionaries, sequences, and plain values. Functions all count as equal.
    """
    return _digest(parts).hex()[:16]


def weights_hash(kind: str, source: str = "embedded") -> str:
    """Return the hash of a model's folder; of a hub name, the name itself.

    kind: "image" or "video". The hash of the embedded model includes the photographs, from which the procedural world
    cuts its grounds: results on other photographs are other results.
    """
    if source == "embedded":
        return content_hash(MODELS / kind, PHOTOGRAPHS)
    return content_hash(Path(source)) if os.path.isdir(source) else source


def case_hashes(cases: Sequence[str | Pair | Case]) -> list[str]:
    """Return a hash of each case: its name with the photographs or the files it is made from, or its pixels."""
    folders: dict[Path, str] = {}  # hashed once, however many of their sequences are in the list
    return [_name_hash(case, folders) if isinstance(case, str) else content_hash(case) for case in cases]


def _name_hash(name: str, folders: dict[Path, str]) -> str:
    folder = PHOTOGRAPHS
    if not name.startswith(RENDERED):
        kind, _, rest = name.partition(":")
        folder = Path(rest.rpartition(":")[0] or rest).expanduser()
        if not folder.exists():
            return content_hash(name)
        name = f"{kind}:{rest.rpartition(':')[2]}"  # the same folder elsewhere gives the same results
    if folder not in folders:
        folders[folder] = content_hash(folder)
    return content_hash(name, folders[folder])


def _digest(x: Any) -> bytes:
    if isinstance(x, Path):
        return _path_digest(x)
    if isinstance(x, Tensor):
        values = x.detach().cpu().contiguous().numpy().tobytes()
        return hashlib.sha256(repr((tuple(x.shape), str(x.dtype))).encode() + values).digest()
    if is_dataclass(x):
        x = {field.name: getattr(x, field.name) for field in fields(x) if field.name != "notes"}
    if isinstance(x, dict):
        x = sorted(x.items())
    if isinstance(x, (list, tuple)):
        return hashlib.sha256(b"".join(map(_digest, x)) + b"sequence").digest()
    return hashlib.sha256(repr("function" if callable(x) else x).encode()).digest()


def _path_digest(path: Path) -> bytes:
    if path.is_dir():
        inside = (p for p in path.rglob("*") if p.is_file() and p.name not in RECOMMENDED and p.suffix not in IGNORED)
        named = sorted((p.relative_to(path).as_posix(), p) for p in inside)
        return _digest([(name, p) for name, p in named if not any(x.startswith(".") for x in name.split("/"))])
    if path.stat().st_size > LARGE:
        return _digest((path.stat().st_size, path.stat().st_mtime_ns))
    return hashlib.sha256(path.read_bytes()).digest()
