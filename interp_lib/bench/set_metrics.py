"""Distances between whole sets of frames: every method's, pooled over all cases, against the true ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from interp_lib.bench.measures import Unavailable
from interp_lib.bench.measures.distributions import Features, fid, fvd, kid
from interp_lib.bench.measures.distributions import features as features_of
from interp_lib.bench.measures.perceptual import perceptual_distance

# network of the features -> network of the perceptual distance
NETS = {"inception": "lpips-alex", "efficientnet-lite0": "efficientnet-lite0"}


def set_distances(
    out: str | os.PathLike, table: pd.DataFrame, *, truth: str = "truth", net: str | Features = "inception"
) -> dict[str, dict[str, Any]]:
    """Return {method: {"fid", "kid", "fvd", "perceptual", "net", "n"}} over the frames that `benchmark` saved in `out`.

    Source: METHODS, section 5; see `measures.distributions`. table: of the benchmark, with rows of the method `truth`;
    only cases and seeds that it has too are pooled, without failed rows. n: frames of a method, to be given with its
    numbers (FID is biased where n is not far above the number of features, so KID leads). perceptual: the mean distance
    of a frame to its true one, with "inception" LPIPS on AlexNet, with "efficientnet-lite0" the maps of that network,
    absent with a function of your own. A number whose network this machine lacks is the text "n/a: weights".
    Raises ValueError where `truth` has no rows, FileNotFoundError where the frames were not saved.
    """
    rows = table[table["status"] == "ok"].to_dict("records")
    true = {(row["case"], row["seed"]): row for row in rows if row["method"] == truth}
    if not true:
        raise ValueError(
            f"the table has no successful row of the method {truth!r}: run it too, or name another truth=."
        )
    distances: dict[str, dict[str, Any]] = {}
    true_features: dict[Any, Tensor] = {}  # computed once for methods with the same cases
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = {(row["case"], row["seed"]): row for row in rows if row["method"] == method}
        common = tuple(key for key in mine if key in true)
        clips, true_clips = ([_read_frames(Path(out), of[key]) for key in common] for of in (mine, true))
        cells: dict[str, Any] = {"net": net if isinstance(net, str) else net.__name__, "n": sum(map(len, clips))}
        try:
            if common not in true_features:
                true_features[common] = features_of(torch.cat(true_clips), net=net)
            features = features_of(torch.cat(clips), net=net)
            cells |= {"fid": fid(features, true_features[common]), "kid": kid(features, true_features[common])}
        except Unavailable as error:
            cells |= {"fid": error.cell, "kid": error.cell}
        cells["fvd"] = _fvd(clips, true_clips)
        if net in NETS:
            cells["perceptual"] = _perceptual(clips, true_clips, NETS[net])
        distances[method] = cells
    return distances


def _perceptual(clips: list[Tensor], true_clips: list[Tensor], net: str) -> float | str:
    try:
        return float(perceptual_distance(torch.cat(clips), torch.cat(true_clips), net=net).mean())
    except Unavailable as error:
        return error.cell


def _fvd(clips: list[Tensor], true_clips: list[Tensor]) -> float | str:
    if len(clips) < 2 or len({clip.shape for clip in clips}) != 1 or len(clips[0]) < 9:
        return "n/a: clips of one size and nine frames"
    try:
        return fvd(torch.stack(clips), torch.stack(true_clips))["fvd"]
    except Unavailable as error:
        return error.cell


def _read_frames(out: Path, row: dict[str, Any]) -> Tensor:
    """Read the frames between the keyframes [n,3,H,W] of an item from the strip that `benchmark` saved."""
    path = out / "frames" / f"{Path(row['file']).name}.png"  # a table may come from anywhere: no path leaves `out`
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the benchmark with save_frames=True in another folder.")
    strip = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255
    return torch.stack(strip.chunk(int(row["n"]) + 2, dim=2))[1:-1]
