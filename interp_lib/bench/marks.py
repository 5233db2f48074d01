"""What a result depends on besides code and settings: the content of pairs and files, whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.bench.fingerprint import photographs_hash
from interp_lib.types import Pair

LARGE = 2**28  # bytes; a larger file is known by its size and time
RENDERED = ("world:", "world-easy:", "calm:")


def case_marks(cases: Sequence[str | Pair | Case]) -> list[str]:
    """Every case by name and by what it is made from: photographs of the world, files of a folder, pixels in memory."""
    folders: dict[Path, Any] = {}  # walked once, however many of their sequences are asked for
    return [_name_mark(case, folders) if isinstance(case, str) else _content_mark(case) for case in cases]


def _name_mark(name: str, folders: dict[Path, Any]) -> str:
    if name.startswith(RENDERED):
        return f"{name} {photographs_hash()}"
    kind, _, rest = name.partition(":")
    folder = Path(rest.rpartition(":")[0] or rest).expanduser()
    if not folder.exists():
        return name
    if folder not in folders:
        folders[folder] = file_mark(folder)
    return f"{kind}:{rest.rpartition(':')[2]} {folders[folder]}"


def _content_mark(case: Pair | Case) -> str:
    parts = vars(case if isinstance(case, Pair) else case.pair) | (vars(case) if isinstance(case, Case) else {})
    digest = hashlib.sha256()
    for name, value in sorted(parts.items()):
        if isinstance(value, Tensor):
            shape = (name, tuple(value.shape), str(value.dtype))
            digest.update(repr(shape).encode() + value.detach().cpu().contiguous().numpy().tobytes())
        elif name not in ("pair", "notes"):
            digest.update(repr((name, value if not callable(value) else "given")).encode())
    return f"{parts['name'] if 'name' in parts else ''} {digest.hexdigest()[:16]}"


def file_mark(path: Path) -> Any:
    """A file by its content; a large one, and what lies in a folder, by name, size and time, hidden files apart."""
    if path.is_file() and path.stat().st_size <= LARGE:
        return path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return _stats(path)


def _stats(path: Path) -> list[tuple[str, int, int]]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    named = ((p, p.relative_to(path.parent).parts[1:] or (p.name,)) for p in files)
    seen = ((p, names) for p, names in named if not any(n.startswith(".") or n == "__pycache__" for n in names))
    return [("/".join(names), p.stat().st_size, p.stat().st_mtime_ns) for p, names in seen]
