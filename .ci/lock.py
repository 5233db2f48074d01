"""Write or check requirements.lock, the pinned form of pyproject.toml's dependencies and its dev extra.

    python .ci/lock.py write    resolve afresh with pip (what `make lock` runs)
    python .ci/lock.py check    fail when the lock is stale or asks for what no plain machine has

torch is pinned without its local version and nothing carries a hash, so that pip may take the build that fits the
machine (CPU or CUDA); pip takes hashes for all lines or for none. The check wants every line to be one exact version.
For the same reason CUDA's own packages stay out: torch asks for them where it needs them.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PINNED = ["torch==2.13.0"]
FROM_TORCH = re.compile(r"^(nvidia-|cuda-|triton$)")
PIN = re.compile(r"([a-z0-9-]+)==([0-9][A-Za-z0-9.]*)")  # one version of a package from the index, nothing else
UNWANTED = re.compile(r"^(nvidia-|cuda-|triton$|torchvision$|xformers$|cupy)")


def wanted() -> list[str]:
    """The requirements that the lock pins: the dependencies and the dev extra, in pyproject's order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + project["optional-dependencies"]["dev"]


def digest() -> str:
    return hashlib.sha256("\n".join(wanted() + PINNED).encode()).hexdigest()


def entries() -> list[str]:
    lines = (line.strip() for line in LOCK.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pins() -> dict[str, str]:
    return dict(match.groups() for line in entries() if (match := PIN.fullmatch(line)))


def write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        subprocess.run([*command, "--report", str(report), *PINNED, *wanted()], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    resolved = {canonicalize_name(item["name"]): item["version"].split("+")[0] for item in found}
    kept = sorted(f"{name}=={version}" for name, version in resolved.items() if not FROM_TORCH.match(name))
    header = [
        "# Made by `make lock` from pyproject.toml (dependencies and the dev extra); do not edit.",
        "# No hashes, and torch without its local version: pip takes the build that fits the machine.",
        f"# pyproject: sha256:{digest()}",
    ]
    LOCK.write_text("\n".join(header + kept) + "\n")


def problems() -> list[str]:
    if not LOCK.exists():
        return ["requirements.lock is missing: run `make lock`"]
    found, locked = [], pins()
    if f"sha256:{digest()}" not in LOCK.read_text():
        found.append("requirements.lock is stale: pyproject.toml's dependencies have changed, run `make lock`")
    for requirement in map(Requirement, wanted() + PINNED):
        version = locked.get(canonicalize_name(requirement.name))
        if version is None:
            found.append(f"requirements.lock lacks {requirement.name}: run `make lock`")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"requirements.lock has {requirement.name} {version}, pyproject.toml wants {requirement}")
    found += [
        f"requirements.lock has {line!r}: every line is name==version, without an address, a range or an option"
        for line in entries()
        if not PIN.fullmatch(line)
    ]
    found += [
        f"requirements.lock has {name}: no default install may need it" for name in locked if UNWANTED.match(name)
    ]
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write()
    elif sys.argv[1:] == ["check"]:
        sys.exit("\n".join(problems()) or None)
    else:
        sys.exit(__doc__)
