"""What a number depends on, as hashes: weights and photographs."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]
ROOT = LIBRARY.parent
# the weights of the embedded model of a kind, and what grounds are cut from
INPUTS = {kind: (f"data/models/{kind}", "data/photographs") for kind in ("image", "video")}


def weights_hash(kind: str, source: str = "embedded") -> str:
    """Of the embedded "image" or "video" model and the photographs; of another folder; a hub id stands for itself."""
    if source != "embedded":
        return _inputs_hash(Path(source), (".",)) if os.path.isdir(source) else source
    return _inputs_hash(ROOT, INPUTS[kind])


def photographs_hash() -> str:
    """Of the photographs that the world cuts its grounds from."""
    return _inputs_hash(ROOT, ("data/photographs",))


@cache
def _inputs_hash(root: Path, folders: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    found = (path for folder in folders for path in (root / folder).rglob("*"))
    for path in sorted(
        path for path in found if path.is_file() and path.suffix != ".md" and path.name != "settings.json"
    ):
        digest.update(path.relative_to(root).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
