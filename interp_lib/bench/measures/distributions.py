"""Distances between two sets of images or clips: FID, KID and FVD, from the features of a named network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interp_lib.bench.measures import networks
from interp_lib.checks import check_choice

Features = Callable[[Tensor], Tensor]  # images [N,3,H,W] in [0,1] -> features [N,D]
NETS = ("inception", "efficientnet-lite0")
BATCH = 32  # images at once


@torch.no_grad()
def features(images: Tensor, *, net: str | Features = "inception") -> Tensor:
    """Return features `[N,D]` float64 of images `[N,3,H,W]` in [0,1].

    net: "inception" (2048 features, those of the published FID and KID), "efficientnet-lite0" (1280; numbers that
    compare with each other only), or a function of images. Raises Unavailable where the network is absent.
    """
    if not callable(net):
        check_choice("net", net, NETS)
        net = networks.inception_features if net == "inception" else networks.lite0_features
    return torch.cat([net(batch).double() for batch in images.split(BATCH)])


def fid(generated: Tensor, real: Tensor) -> float:
    """Return the Frechet distance of two sets of features `[N,D]`, `[M,D]`.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, Eq. 6: |m - m'|^2 + tr(C + C' - 2 (C
    C')^(1/2)), covariances by n-1. With centred features A/sqrt(n-1), C = A^T A, so tr (C C')^(1/2) is the sum of the
    singular values of A A'^T, and no root of a singular matrix is taken. Biased upwards where N or M is not far above
    D: report n beside it, and let `kid` lead. Raises ValueError for fewer than two and for other shapes.
    """
    _check(generated, real)
    (mean, centred), (mean1, centred1) = _moments(generated.double()), _moments(real.double())
    shared = torch.linalg.svdvals(centred @ centred1.T).sum()
    spread = centred.square().sum() + centred1.square().sum()
    return float((mean - mean1).square().sum() + spread - 2 * shared)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [D], and A [min(N,D),D] with A^T A = the covariance."""
    mean = x.mean(0)
    centred = (x - mean) / (len(x) - 1) ** 0.5
    return mean, torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred


def kid(generated: Tensor, real: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of features, kernel (x.y / D + 1)^3.

    Source: Binkowski et al., Demystifying MMD GANs, 2018, Eq. 4, over all features at once rather than over random
    subsets. Zero on average for two sets of one distribution, so it may be negative. Raises ValueError as `fid` does.
    """
    _check(generated, real)
    generated, real = generated.double(), real.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = 0.0
    for x in (generated, real):
        k = kernel(x, x)
        within += float((k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1)))
    return within - 2 * float(kernel(generated, real).mean())


@torch.no_grad()
def fvd(generated: Tensor, real: Tensor) -> dict[str, float | str]:
    """Return FVD of two sets of clips `[B,T,3,H,W]` in [0,1]: `fid` of I3D's Kinetics logits (package cd-fvd), with n.

    Source: Unterthiner et al., Towards Accurate Generative Models of Video, 2018. Raises ValueError for fewer than two
    clips or nine frames, below which nothing is left for I3D's last pooling; Unavailable without package or weights.
    """
    for name, clips in (("generated", generated), ("real", real)):
        if clips.ndim != 5 or len(clips) < 2 or clips.shape[1] < 9:
            rule = "FVD takes two or more clips of at least 9 frames, [B,T,3,H,W]"
            raise ValueError(f"{name} has shape {tuple(clips.shape)}: {rule}.")
    made, true = networks.i3d_features(generated), networks.i3d_features(real)
    return {"fvd": fid(made, true), "net": "i3d-kinetics400", "n": len(made), "n_real": len(true)}


def _check(generated: Tensor, real: Tensor) -> None:
    for name, x in (("generated", generated), ("real", real)):
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != real.shape[-1]:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: two sets of features are [N,D] and [M,D], N, M >= 2.")
