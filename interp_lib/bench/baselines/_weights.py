"""What a user brings along (weights, a clone of a repository, an interpreter): where it lies, and what is said without.

Every adapter looks in the same two places: first its option (`weights=`, `clone=`, `python=`), then an environment
variable (INTERP_FILM, INTERP_LDMVFI_CLONE, INTERP_LDMVFI_PYTHON, and so on).
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.models.folder import first_line


@dataclass(frozen=True)
class Need:
    """One thing that a method cannot do without and this repository does not hold.

    what: as in "FILM needs <what>". how: as in "<how>, and give its path ...". folder: it is one, not a file.
    """

    method: str
    what: str
    how: str
    option: str = "weights"
    folder: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that stands in for the option."""
        part = "" if self.option == "weights" else f"_{self.option}"
        return f"INTERP_{self.method}{part}".upper()

    def missing(self, problem: str = "") -> FileNotFoundError:
        """What is said when it is not there; `problem` is one clause about what was given instead."""
        place = f"give its path as {self.option}= or in the environment variable {self.variable}"
        return FileNotFoundError(f"{problem}{self.method} needs {self.what}: {self.how}, and {place}.")


def find(need: Need, given: str | os.PathLike | None = None) -> Path:
    """Where the thing lies, as an absolute path: the option's value, else the environment variable's.

    Raises FileNotFoundError, which says what to get and from where, when neither is set or names nothing, and
    ValueError for a folder in place of a file and the reverse.
    """
    origin = f"{need.option}=" if given is not None else need.variable
    given = given if given is not None else os.environ.get(need.variable)
    if given is not None and not isinstance(given, (str, os.PathLike)):
        raise ValueError(f"{origin} is a {type(given).__name__}: give a path.")
    if not given:
        raise need.missing()
    path = Path(os.path.abspath(os.path.expanduser(given)))  # no resolve(): an interpreter is a link in its environment
    if not path.exists():
        raise need.missing(f"{path} ({origin}) does not exist; ")
    if path.is_dir() != need.folder:
        kind = "file" if need.folder else "folder"
        raise ValueError(f"{path} ({origin}) is a {kind}: {need.method} needs {need.what}.")
    return path


def find_python(method: str, given: str | os.PathLike | None = None) -> Path:
    """The interpreter that runs a clone: option, INTERP_<METHOD>_PYTHON, else the one that runs this."""
    need = Need(method, "an interpreter with the packages of its repository", "make an environment for it", "python")
    if given is None and not os.environ.get(need.variable):
        return Path(sys.executable)
    return find(need, given)


def is_script(path: Path) -> bool:
    """Whether a file is TorchScript: an archive that holds code, which a file of weights does not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def load_script(path: Path, device: torch.device, method: str) -> Any:
    """A TorchScript file in float32 and eval mode; ValueError for a file that is none."""
    if not is_script(path):
        raise ValueError(f"{path} is no TorchScript file, and {method} needs one: download it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, the one way to read these files
            return torch.jit.load(str(path), map_location=device).eval().float()
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as {method} ({first_line(error)}): download it again.") from None


def load_state(path: Path, method: str) -> dict[str, Tensor]:
    """Weights by name from a safetensors file or, with weights_only=True, one of torch.save; ValueError otherwise."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as weights of {method} ({first_line(error)}).") from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no weights by name: {method} needs the state_dict of its network.")
    return {name.removeprefix("module."): value for name, value in state.items()}  # left there by DataParallel


def fill(network: torch.nn.Module, state: dict[str, Tensor], path: Path, device: torch.device) -> torch.nn.Module:
    """The network with these weights, frozen, in eval mode; what only training used may be left over.

    Raises ValueError where a weight of the network is missing or has another shape.
    """
    try:
        missing = network.load_state_dict(state, strict=False).missing_keys
    except RuntimeError:
        missing = ["weights of the right shape"]
    if missing:
        raise ValueError(
            f"{path} does not fit {type(network).__name__}: {missing[0]} is missing, one of {len(missing)}."
        )
    return network.to(device).eval().requires_grad_(False)


def run_clone(python: Path, arguments: Sequence[str], clone: Path, method: str) -> None:
    """Run `python arguments` in a clone; ValueError if it cannot start, RuntimeError with its last word if it fails."""
    try:
        done = subprocess.run(
            [str(python), *arguments], cwd=clone, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ValueError(f"{python} cannot be run ({first_line(error)}): give {method} the path of a python.") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise RuntimeError(f"{method}'s own script failed in {clone} (exit status {done.returncode}): {said}")
