"""Files are written whole or not at all."""

from __future__ import annotations

import glob
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name next to `path`, with its suffix; rename it to `path` when the body has succeeded.

    An interrupted or failing body leaves what was there before untouched. What a killed process left of the same file
    is removed first. Raises FileNotFoundError where the folder does not exist, ValueError where `path` is a folder
    itself, and OSError, in one sentence, when the disk is full or may not be written to.
    """
    path = Path(path)
    check_target(path)
    remove_stale_temporaries(path.parent, path)
    temporary = path.with_name(f".{path.stem}.{_machine()}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        if reason := _reason(error):
            raise OSError(f"{path} cannot be written ({reason}): make room there, or name another place.") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raise FileNotFoundError or ValueError unless a file can have this path; for long work, before it begins."""
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first, or name another.")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a file.")


def _reason(error: Exception) -> str:
    """Return why the system would not write a file, in one line; "" for an error of another kind."""
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError):
        return error.strerror or message
    # safetensors and torch.save have their own kinds of error for what the disk says
    return message if type(error).__name__ == "SafetensorError" or "PytorchStreamWriter" in message else ""


def remove_stale_temporaries(folder: str | Path, of: Path | None = None) -> None:
    """Remove the temporaries of `atomic_write` that killed processes of this machine have left in a folder.

    of: only those of this file.
    """
    names = ".*.tmp*" if of is None else f".{glob.escape(of.stem)}.*.tmp{glob.escape(of.suffix)}"
    for path in Path(folder).glob(names):
        name = re.fullmatch(rf"\..*\.{_machine()}\.(\d+)\.tmp(\.\w+)?", path.name)
        if name and not _runs(int(name[1])):
            path.unlink(missing_ok=True)


def _machine() -> str:
    """Name this machine: several may write into one folder, and each knows only which of its own processes run."""
    return re.sub(r"\W", "-", platform.node())


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and does nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
