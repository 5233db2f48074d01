"""Files are written whole or not at all."""

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

    A failing body leaves what was there before. What a killed process left of the same file is removed first. Raises
    what `check_target` raises, and OSError, in one sentence, when the disk is full.
    """
    path = Path(path)
    check_target(path)
    remove_stale_temporaries(path.parent, path)
    temporary = path.with_name(f".{path.stem}.{_machine()}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        # safetensors and torch.save have their own kinds of error for what the disk says
        kind = f"{type(error).__name__}: {error}"
        if not isinstance(error, OSError) and "SafetensorError" not in kind and "PytorchStreamWriter" not in kind:
            raise
        reason = getattr(error, "strerror", None) or (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OSError(f"{path} cannot be written ({reason}): make room there, or name another place.") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raise FileNotFoundError or ValueError unless a file can be written there; for long work, before it begins."""
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first, or name another.")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a file.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written, {path.parent} is read-only: name another place.")


def remove_stale_temporaries(folder: str | Path, of: Path | None = None) -> None:
    """Remove what killed processes of this machine have left in a folder: of all files, or `of` one."""
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
        os.kill(process, 0)  # signal 0 asks whether the process exists and does nothing
    except (PermissionError, ProcessLookupError) as error:
        return isinstance(error, PermissionError)
    return True
