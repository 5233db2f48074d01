"""Distances between two sets of images or clips: FID, KID and FVD, from the features of a named network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interp_lib.bench.measures import networks
from interp_lib.checks import check_choice

Features = Callable[[Tensor], Tensor]  # images [N,3,H,W] in [0,1] -> features [N,D]
NETS = ("inception", "efficientnet-lite0")
CHUNK = 32  # images at once
LEAST_FRAMES = 9  # below it nothing is left for I3D's last pooling


@torch.no_grad()
def features(images: Tensor, *, net: str | Features = "inception") -> Tensor:
    """Features `[N,D]` float64 of images `[N,3,H,W]` in [0,1].

    net: "inception" (2048 features; FID and KID as published use these), "efficientnet-lite0" (1280; numbers that
    compare with each other only), or a function of images. Raises ValueError for another net, Unavailable where the
    network is absent.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images has shape {tuple(images.shape)}: features are taken of one or more, [N,3,H,W].")
    if not callable(net):
        check_choice("net", net, NETS)
        net = networks.inception_features if net == "inception" else networks.lite0_features
    return torch.cat([net(part).double() for part in images.split(CHUNK)])


def fid(generated: Tensor, real: Tensor) -> float:
    """Frechet distance of two sets of features: |mean - mean'|^2 + tr(C + C' - 2 (C C')^(1/2)), covariances by n-1.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, Eq. 6. With centred features A/sqrt(n-1),
    C = A^T A, so tr (C C')^(1/2) is the sum of the singular values of A A'^T: no root of a singular matrix is taken.
    generated, real: `[N,D]`, `[M,D]`. Biased upwards where N or M is not far above D: then `kid` leads, and n belongs
    beside the number. Raises ValueError for fewer than two, other shapes, and values that are not finite.
    """
    generated, real = _check(generated, real)
    (mean, centred), (mean1, centred1) = (_moments(x) for x in (generated, real))
    shared = torch.linalg.svdvals(centred @ centred1.T).sum()
    spread = centred.square().sum() + centred1.square().sum()
    return float((mean - mean1).square().sum() + spread - 2 * shared)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [D] and A [min(N,D),D] with A^T A = the covariance."""
    mean = x.mean(0)
    centred = (x - mean) / (len(x) - 1) ** 0.5
    return mean, torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred


def kid(generated: Tensor, real: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased, over all features at once.

    Source: Binkowski et al., Demystifying MMD GANs, 2018, Eq. 4. Zero on average for two sets of one distribution, so
    it may be negative. generated, real: `[N,D]`, `[M,D]`. Raises ValueError as `fid` does.
    """
    generated, real = _check(generated, real)
    within = 0.0
    for x in (generated, real):
        kernel = _kernel(x, x)
        within += float((kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1)))
    return within - 2 * float(_kernel(generated, real).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def image_distances(generated: Tensor, real: Tensor, *, net: str | Features = "inception") -> dict[str, float | str]:
    """FID and KID of two sets of images `[N,3,H,W]`, with what belongs beside them: the network and both counts."""
    made, true = (features(x, net=net) for x in (generated, real))
    name = net if isinstance(net, str) else getattr(net, "__name__", type(net).__name__)
    return {"fid": fid(made, true), "kid": kid(made, true), "net": name, "n": len(made), "n_real": len(true)}


@torch.no_grad()
def fvd(generated: Tensor, real: Tensor) -> dict[str, float | str]:
    """FVD of two sets of clips `[B,T,3,H,W]` in [0,1]: `fid` of I3D's Kinetics logits, with n, by the package cd-fvd.

    Source: Unterthiner et al., Towards Accurate Generative Models of Video, 2018. Raises ValueError for fewer than two
    clips or nine frames, Unavailable where the package or its weights are absent.
    """
    for name, clips in (("generated", generated), ("real", real)):
        if clips.ndim != 5 or len(clips) < 2 or clips.shape[1] < LEAST_FRAMES or clips.shape[2] != 3:
            raise ValueError(
                f"{name} has shape {tuple(clips.shape)}: FVD takes two or more clips of at least {LEAST_FRAMES} frames,"
                " [B,T,3,H,W]."
            )
    made, true = (networks.i3d_features(clips).double() for clips in (generated, real))
    return {"fvd": fid(made, true), "net": "i3d-kinetics400", "n": len(made), "n_real": len(true)}


def _check(generated: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    for name, x in (("generated", generated), ("real", real)):
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != real.shape[-1]:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: two sets of features are [N,D] and [M,D], N, M >= 2.")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"{name} holds NaN or infinite features: look for the image that made them.")
    return generated.double(), real.double()
