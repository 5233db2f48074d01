"""What a result depends on besides settings, as short hashes of content: weights, photographs, cases, files."""

import hashlib
import os
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_lib.types import Pair

ROOT = Path(__file__).resolve().parents[2]
MODELS, PHOTOGRAPHS = ROOT / "data" / "models", ROOT / "data" / "photographs"
LARGE = 2**28  # bytes; a larger file is known by its size and time, hashing it would take minutes
IGNORED, RECOMMENDED = (".md", ".pyc"), "settings.json"  # what a model recommends is no part of its weights
RENDERED = ("world", "world-easy", "calm")  # cases whose grounds are cut from the photographs


def content_hash(*parts: Any) -> str:
    """Return 16 hexadecimal digits that depend on the content of all parts, and on nothing else.

    parts: paths (files by their bytes, folders by the files in them, without Markdown and hidden files), tensors (by
    shape, dtype and values), dataclasses, dictionaries, sequences, and plain values.
    """
    return _digest(parts).hex()[:16]


def weights_hash(kind: str, source: str = "embedded") -> str:
    """Return the hash of the folder of an "image" or "video" model; of a hub name, the name itself.

    That of an embedded model includes the photographs, from which the procedural world cuts its grounds.
    """
    if source == "embedded":
        return content_hash(MODELS / kind, PHOTOGRAPHS)
    return content_hash(Path(source)) if os.path.isdir(source) else source


def case_hashes(cases: list[str | Pair]) -> list[str]:
    """Return a hash of each case: its name with the photographs or the files it is made from, or its pixels."""
    folder_hash = cache(content_hash)  # once, however many of the folder's sequences are in the list
    hashes = []
    for case in cases:
        kind, _, rest = case.partition(":") if isinstance(case, str) else ("", "", "")
        place, _, item = rest.rpartition(":")
        folder = PHOTOGRAPHS if kind in RENDERED else Path(place).expanduser()
        made_of_files = kind in RENDERED or (place and folder.is_dir())
        # The same folder elsewhere gives the same results, so its path does not count
        parts = (f"{kind}:{item}", folder_hash(folder)) if made_of_files else (case,)
        hashes.append(content_hash(*parts))
    return hashes


def _digest(x: Any) -> bytes:
    if isinstance(x, Path) and x.is_dir():
        inside = (p for p in x.rglob("*") if p.is_file() and p.name != RECOMMENDED and p.suffix not in IGNORED)
        named = sorted((p.relative_to(x).as_posix(), p) for p in inside)
        x = [(name, p) for name, p in named if not any(part.startswith(".") for part in name.split("/"))]
    elif isinstance(x, Path):
        large = x.stat().st_size > LARGE
        return _digest((x.stat().st_size, x.stat().st_mtime_ns)) if large else hashlib.sha256(x.read_bytes()).digest()
    elif isinstance(x, Tensor):
        values = x.detach().cpu().contiguous().numpy().tobytes()
        return hashlib.sha256(repr((tuple(x.shape), str(x.dtype))).encode() + values).digest()
    elif is_dataclass(x):
        x = {field.name: getattr(x, field.name) for field in fields(x) if field.name != "notes"}
    if isinstance(x, dict):
        x = sorted(x.items())
    if isinstance(x, (list, tuple)):
        return hashlib.sha256(b"".join(map(_digest, x)) + b"sequence").digest()
    return hashlib.sha256(repr(x).encode()).digest()
