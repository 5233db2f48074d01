"""Distance between images as a network sees them, and how evenly it is spread over a sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interp_lib.bench.measures import networks
from interp_lib.checks import check_choice

Maps = Callable[[Tensor], list[Tensor]]  # images [N,3,H,W] in [0,1] -> feature maps, each [N,C,h,w]
NETS = ("lpips-alex", "lpips-vgg", "efficientnet-lite0")
CHUNK = 16  # pairs of images at once


def map_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Squared distance of unit feature vectors, averaged over the pixels of each map and summed over the maps, `[N]`.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, Eq. 1 with all
    channel weights 1 (what its code calls the baseline, without linear layers). In [0, 4] for each map.
    """
    total = first[0].new_zeros(len(first[0]))
    for a, b in zip(first, second, strict=True):
        a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
        total = total + (a - b).square().sum(1).mean((1, 2))
    return total


@torch.no_grad()
def perceptual_distance(first: Tensor, second: Tensor, *, net: str | Maps = "efficientnet-lite0") -> Tensor:
    """Distance of each image to its partner, `[N]`; 0 for equal images, symmetric.

    net: "lpips-alex" or "lpips-vgg", which is LPIPS 0.1; or "efficientnet-lite0", which is **not** LPIPS: features of
    another ImageNet network, normalised per pixel as LPIPS does, but without its weights learned from human judgements
    (see `map_distance`), for machines that have no LPIPS weights. Its numbers compare with each other only. Or a
    function of images that returns feature maps, compared in the same way.
    first, second: `[N,3,H,W]` in [0,1], compared at their own size. Raises ValueError for another net and for shapes
    that differ, Unavailable where the network is absent.
    """
    if first.ndim != 4 or first.shape != second.shape or len(first) == 0:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"a perceptual distance compares images of one shape [N,3,H,W], not {shapes}.")
    if not callable(net):
        check_choice("net", net, NETS)
    measure = _distance(net)
    return torch.cat([measure(a, b) for a, b in zip(first.split(CHUNK), second.split(CHUNK), strict=True)])


def _distance(net: str | Maps) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(net, str) and net.startswith("lpips-"):
        lpips = networks.lpips_network(net.removeprefix("lpips-"))
        return lambda a, b: lpips.to(a.device)(a.float(), b.float(), normalize=True).flatten()
    maps = net if callable(net) else networks.lite0_maps
    return lambda a, b: map_distance(maps(a), maps(b))


def neighbour_distances(frames: Tensor, *, net: str | Maps = "efficientnet-lite0") -> Tensor:
    """Distance of every frame to the next one, `[T-1]`. frames: `[T,3,H,W]` in [0,1], both ends included.

    Raises ValueError for fewer than two frames, and as `perceptual_distance` does.
    """
    if frames.ndim != 4 or len(frames) < 2:
        raise ValueError(f"frames has shape {tuple(frames.shape)}: neighbours need two or more, [T,3,H,W].")
    return perceptual_distance(frames[:-1], frames[1:], net=net)


def path_length(distances: Tensor) -> float:
    """PPL: the sum of the distances between neighbours. Source: DiffMorpher (Zhang et al. 2024), section 4."""
    return float(distances.sum())


def distance_variance(distances: Tensor) -> float:
    """PDV: their variance (divided by their number); 0 for frames that change evenly. Source: as `path_length`."""
    return float(distances.var(correction=0))
