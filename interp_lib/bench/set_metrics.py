"""Distances between two sets of frames or clips, FID, KID and FVD: every method's to the true ones."""

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from interp_lib.bench import networks
from interp_lib.checks import check_choice

Features = Callable[[Tensor], Tensor]  # images [N,3,H,W] in [0,1] -> features [N,D]
# network of the features -> network of the perceptual distance
NETS = {"inception": "lpips-alex", "efficientnet-lite0": "efficientnet-lite0"}
BATCH = 32  # images at once


def set_distances(
    out: str | os.PathLike, table: pd.DataFrame, *, truth: str = "truth", net: str | Features = "inception"
) -> dict[str, dict[str, Any]]:
    """Return {method: {"fid", "kid", "fvd", "perceptual", "net", "n"}} over the frames that `benchmark` saved in `out`.

    Source: METHODS, section 5. table: of the benchmark, with rows of the method `truth`; only cases and seeds that it
    has too are pooled, without failed rows. net: as in `features`. n: frames of a method, to be given with its numbers.
    perceptual: the mean distance of a frame to its true one, by LPIPS with "inception", by its maps with
    "efficientnet-lite0", absent with a function of your own. A number whose network this machine lacks is a text such
    as "n/a: weights". Raises ValueError where `truth` has no rows, FileNotFoundError where the frames were not saved.
    """
    by_method: dict[str, dict[tuple, dict]] = {}
    for row in table[table["status"] == "ok"].to_dict("records"):
        by_method.setdefault(row["method"], {})[row["case"], row["seed"]] = row
    if truth not in by_method:
        raise ValueError(f"the table has no successful row of the method {truth!r}: run it too, or name truth=.")
    distances = {}
    for method, mine in by_method.items():
        common = [key for key in mine if key in by_method[truth]]
        clips, true = ([_read_frames(Path(out), of[key]) for key in common] for of in (mine, by_method[truth]))
        distances[method] = {"net": net if isinstance(net, str) else net.__name__, "n": sum(map(len, clips))}
        distances[method] |= _distances(clips, true, net)
    return distances


def _distances(clips: list[Tensor], true: list[Tensor], net: str | Features) -> dict[str, Any]:
    frames, true_frames = torch.cat(clips), torch.cat(true)
    both = cache(lambda: (features(frames, net=net), features(true_frames, net=net)))
    cells = {"fid": _cell(lambda: fid(*both())), "kid": _cell(lambda: kid(*both()))}
    cells["fvd"] = "n/a: clips of one size and nine frames"
    if len(clips) > 1 and len({clip.shape for clip in clips}) == 1 and len(clips[0]) >= 9:
        cells["fvd"] = _cell(lambda: fvd(torch.stack(clips), torch.stack(true)))
    if net in NETS:
        distance = partial(networks.perceptual_distance, frames, true_frames, net=NETS[net])
        cells["perceptual"] = _cell(lambda: float(distance().mean()))
    return cells


def _cell(distance: Callable[[], float]) -> float | str:
    try:
        return distance()
    except networks.Unavailable as error:
        return error.cell


def _read_frames(out: Path, row: dict[str, Any]) -> Tensor:
    """Read the frames between the keyframes [n,3,H,W] of an item from the strip that `benchmark` saved."""
    path = out / "frames" / f"{Path(row['file']).name}.png"  # a table may come from anywhere: no path leaves `out`
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the benchmark again in another folder.")
    strip = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255
    return torch.stack(strip.chunk(int(row["n"]) + 2, dim=2))[1:-1]


@torch.no_grad()
def features(images: Tensor, *, net: str | Features = "inception") -> Tensor:
    """Return features `[N,D]` float64 of images `[N,3,H,W]` in [0,1].

    net: "inception" (2048 features, those of the published FID and KID), "efficientnet-lite0" (1280; numbers that
    compare with each other only), or a function of images. Raises Unavailable where the network is absent.
    """
    if not callable(net):
        check_choice("net", net, list(NETS))
        net = networks.inception_features if net == "inception" else networks.lite0_features
    return torch.cat([net(batch).double() for batch in images.split(BATCH)])


def fid(generated: Tensor, real: Tensor) -> float:
    """Return the Frechet distance of two sets of features.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, Eq. 6: |m - m'|^2 + tr(C + C' - 2 (C
    C')^(1/2)), covariances by n-1. With centred features A/sqrt(n-1), C = A^T A, so tr (C C')^(1/2) is the sum of the
    singular values of A A'^T, and no root of a singular matrix is taken. generated, real: [N,D] and [M,D]. Biased
    upwards where N or M is not far above D: report n with it, and let `kid` lead.
    """
    generated, real = _check_features(generated, real)
    factors = []
    for x in (generated, real):
        centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
        # R of QR gives the same covariance in fewer rows
        factors.append(torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred)
    shared = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    spread = factors[0].square().sum() + factors[1].square().sum()
    return float((generated.mean(0) - real.mean(0)).square().sum() + spread - 2 * shared)


def kid(generated: Tensor, real: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of features, kernel (x.y / D + 1)^3.

    Source: Binkowski et al., Demystifying MMD GANs, 2018, Eq. 4, over all features at once rather than over random
    subsets. Zero on average for two sets of one distribution, so it may be negative.
    """
    generated, real = _check_features(generated, real)
    within = 0.0
    for x in (generated, real):
        k = _kernel(x, x)
        within += float((k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1)))
    return within - 2 * float(_kernel(generated, real).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


@torch.no_grad()
def fvd(generated: Tensor, real: Tensor) -> float:
    """Return FVD of two sets of clips `[B,T,3,H,W]` in [0,1]: `fid` of I3D's Kinetics logits (package cd-fvd).

    Source: Unterthiner et al., Towards Accurate Generative Models of Video, 2018. Raises ValueError for fewer than two
    clips or nine frames, below which nothing is left for I3D's last pooling; Unavailable without package or weights.
    """
    for clips in (generated, real):
        if clips.ndim != 5 or len(clips) < 2 or clips.shape[1] < 9:
            given = f"{tuple(clips.shape)} is no set for FVD"
            raise ValueError(f"{given}: give two or more clips of at least 9 frames, [B,T,3,H,W].")
    return fid(networks.i3d_features(generated), networks.i3d_features(real))


def _check_features(generated: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    fits = generated.ndim == real.ndim == 2 and generated.shape[1] == real.shape[1]
    if not fits or len(generated) < 2 or len(real) < 2:
        shapes = f"{tuple(generated.shape)} and {tuple(real.shape)}"
        raise ValueError(f"shapes {shapes}: two sets of features are [N,D] and [M,D], N and M at least 2.")
    return generated.double(), real.double()
