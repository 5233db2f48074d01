"""Distances between whole sets: every method's frames, pooled over all cases, against the true ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interp_lib.bench.measures import Unavailable
from interp_lib.bench.measures.distributions import Features, fid, fvd, kid
from interp_lib.bench.measures.distributions import features as features_of
from interp_lib.bench.measures.perceptual import perceptual_distance
from interp_lib.bench.results import Row

NETS = {"inception": "lpips-alex", "efficientnet-lite0": "efficientnet-lite0"}  # of features -> of perceptual distance


def set_distances(
    out: str | os.PathLike, rows: Sequence[Row], *, truth: str = "truth", net: str | Features = "inception"
) -> dict[str, dict[str, Any]]:
    """{method: {"fid", "kid", "fvd", "perceptual", "net", "n"}} over the frames between the ends that `benchmark` has
    kept in `out`.

    Source: METHODS, section 5; see `measures.distributions`. rows: of the benchmark's table, those of `truth`
    among them; only cases and seeds that it has too are pooled, failed rows are left out. n: frames of a method, to be
    printed beside its numbers (FID is biased where n is not far above the number of features, so KID leads).
    perceptual: the mean distance of a frame to its true one, with "inception" LPIPS on AlexNet, with
    "efficientnet-lite0" the same network's maps (`measures.perceptual`), absent with a function of your own. A number
    whose network this machine lacks is the text "n/a: weights".
    Raises ValueError where `truth` has no rows, FileNotFoundError where the frames were not kept.
    """
    done = [row for row in rows if row["status"] == "ok"]
    true = {(row["case"], row["seed"]): row for row in done if row["method"] == truth}
    if not true:
        raise ValueError(f"rows holds none of the method {truth!r} that went well: run it too, or name another truth=.")
    found: dict[str, dict[str, Any]] = {}
    real: dict[Any, Tensor] = {}
    for method in dict.fromkeys(row["method"] for row in done):
        mine = {(row["case"], row["seed"]): row for row in done if row["method"] == method}
        common = [key for key in mine if key in true]
        made, truths = ([_between(Path(out), rows_of[key]) for key in common] for rows_of in (mine, true))
        cells: dict[str, Any] = {"net": net if isinstance(net, str) else net.__name__, "n": sum(map(len, made))}
        try:
            if tuple(common) not in real:
                real[tuple(common)] = features_of(torch.cat(truths), net=net)
            mapped = features_of(torch.cat(made), net=net)
            cells |= {"fid": fid(mapped, real[tuple(common)]), "kid": kid(mapped, real[tuple(common)])}
        except Unavailable as error:
            cells |= {"fid": error.cell, "kid": error.cell}
        found[method] = cells | {"fvd": _fvd(made, truths)} | _perceptual(made, truths, net)
    return found


def _perceptual(made: list[Tensor], truths: list[Tensor], net: Any) -> dict[str, float | str]:
    if net not in NETS:
        return {}
    try:
        return {"perceptual": float(perceptual_distance(torch.cat(made), torch.cat(truths), net=NETS[net]).mean())}
    except Unavailable as error:
        return {"perceptual": error.cell}


def _fvd(made: list[Tensor], truths: list[Tensor]) -> float | str:
    shapes = {tuple(clip.shape) for clip in made}
    if len(made) < 2 or len(shapes) != 1 or len(made[0]) < 9:
        return "n/a: clips of one size and nine frames"
    try:
        return fvd(torch.stack(made), torch.stack(truths))["fvd"]
    except Unavailable as error:
        return error.cell


def _between(out: Path, row: Row) -> Tensor:
    """The frames between the ends [n,3,H,W] of an item, from the strip that `benchmark` keeps."""
    path = out / "frames" / f"{Path(row['file']).name}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the benchmark with save_frames=True in another folder.")
    strip = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255
    return torch.stack(strip.chunk(row["n"] + 2, dim=2))[1:-1]
