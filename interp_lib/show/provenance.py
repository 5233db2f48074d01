"""Where figures go and what they are made of."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]
ROOT = LIBRARY.parent


def figure_path(name: str) -> Path:
    """The file a figure of that name is written to.

    The folder is $INTERP_FIGURES (the runner sets it), else figures/ beside the nearest pyproject.toml above the
    current folder, else figures/ in the current folder. It is made when missing.
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"figure name {name!r}: give a file name without a folder, such as '02_flow.png'")
    folder = os.environ.get("INTERP_FIGURES")
    if folder is None:
        here = Path.cwd()
        root = next((parent for parent in (here, *here.parents) if (parent / "pyproject.toml").is_file()), here)
        folder = root / "figures"
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / name


@cache
def library_hash() -> str:
    """A hash of the library's code, the data it ships (weights, tables), and the lock."""
    files = [path for path in LIBRARY.rglob("*") if path.suffix in (".py", ".mplstyle")]
    files += [path for path in (ROOT / "data").rglob("*") if path.is_file() and path.suffix != ".md"]
    files += [path for path in [ROOT / "requirements.lock"] if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
