"""FILM, from the user's TorchScript file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from interp_lib.bench.baselines._frames import between_ends, pad_to
from interp_lib.bench.baselines._weights import Need, find, load_script
from interp_lib.checks import check_choice
from interp_lib.models.folder import pick_device
from interp_lib.types import Interpolation, Pair

MODEL = None
NEEDS = (
    Need(
        "FILM",
        "its network as a TorchScript file",
        "download https://github.com/dajes/frame-interpolation-pytorch/releases/download/v1.0.2/film_net_fp32.pt",
    ),
)
ALIGN = 64  # px, what the network's pyramid needs


def make(
    model: None,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    weights: str | os.PathLike | None = None,
    times: str = "recursive",
    device: str = "auto",
) -> Interpolation:
    """Each frame from two others by one call of the network, `network(x0, x1, t)`; the seed changes nothing.

    Source: Reda et al., FILM: Frame Interpolation for Large Motion, ECCV 2022; weights converted by dajes.
    weights: the file, else INTERP_FILM. times: "recursive" takes the frame nearest to the middle of a gap first, as the
    network was trained for t = 1/2 only and its authors use it; "direct" asks for every time from the two images.
    Sides are padded with zeros to multiples of 64, on all sides alike, and cut again.
    Raises FileNotFoundError without the file and ValueError for one that is no TorchScript.
    """
    check_choice("times", times, ("recursive", "direct"))
    path, chosen = find(NEEDS[0], weights), pick_device(device)
    network = _load(path, path.stat().st_mtime_ns, chosen)
    padded, cut, notes = pad_to(torch.cat([pair.image0, pair.image1]).to(chosen), ALIGN)
    made = {0: padded[:1], frames + 1: padded[1:]}
    last = frames + 1
    plan = _halves(0, last) if times == "recursive" else ((0, k, last) for k in range(1, last))
    with torch.no_grad():
        for left, k, right in plan:
            t = padded.new_full((1, 1), (k - left) / (right - left))
            made[k] = network(made[left], made[right], t).clamp(0, 1)
    return between_ends(pair, cut(torch.cat([made[k] for k in range(1, last)])), notes=notes)


def _halves(left: int, right: int) -> Iterator[tuple[int, int, int]]:
    """(left, k, right) for every whole number k between, the middle of a gap before what lies beside it."""
    if right - left > 1:
        k = (left + right) // 2
        yield left, k, right
        yield from _halves(left, k)
        yield from _halves(k, right)


@lru_cache(maxsize=1)  # for the next pair; `changed` is part of what it is
def _load(path: Path, changed: int, device: torch.device) -> Any:
    return load_script(path, device, "FILM")
