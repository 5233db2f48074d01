"""Files are written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix, that is renamed to it when the body has ended well.

    An interrupted or failing body leaves whatever was there before untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: str | Path) -> None:
    """Remove what killed processes of this machine have left in a folder: temporaries of `whole` that nobody writes."""
    for path in Path(folder).glob(".*.tmp*"):
        found = re.fullmatch(r"\..*\.(\d+)\.tmp(\.\w+)?", path.name)
        if found and not _runs(int(found[1])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and does nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
