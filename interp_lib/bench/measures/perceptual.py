"""Perceptual distance between images: LPIPS, or the distance of another network's feature maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interp_lib.bench.measures import networks
from interp_lib.checks import check_choice

Maps = Callable[[Tensor], list[Tensor]]  # images [N,3,H,W] in [0,1] -> feature maps, each [N,C,h,w]
NETS = ("lpips-alex", "lpips-vgg", "efficientnet-lite0")
BATCH = 16  # pairs of images at once


def map_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Return the squared distance of unit feature vectors, averaged over pixels and summed over maps, `[N]`.

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
    """Return the distance of each image `[N,3,H,W]` to its partner, `[N]`; 0 for equal images, symmetric.

    net: "lpips-alex" or "lpips-vgg", which is LPIPS 0.1; or "efficientnet-lite0", which is **not** LPIPS but
    `map_distance` of another ImageNet network, for machines that have no LPIPS weights: its numbers compare with each
    other only. A function of images that returns feature maps is compared in the same way. Raises Unavailable where
    the network is absent.
    """
    if not callable(net):
        check_choice("net", net, NETS)
    if not callable(net) and net.startswith("lpips-"):
        lpips = networks.lpips_network(net.removeprefix("lpips-")).to(first.device)

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return lpips(a.float(), b.float(), normalize=True).flatten()
    else:
        maps = net if callable(net) else networks.lite0_maps

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return map_distance(maps(a), maps(b))

    return torch.cat([distance(a, b) for a, b in zip(first.split(BATCH), second.split(BATCH), strict=True)])


def neighbour_distances(frames: Tensor, *, net: str | Maps = "efficientnet-lite0") -> Tensor:
    """Return the distance of every frame `[T,3,H,W]` to the next one, `[T-1]`.

    Their sum is PPL and their variance (divided by their number) PDV. Source: DiffMorpher (Zhang et al. 2024), sec. 4.
    """
    return perceptual_distance(frames[:-1], frames[1:], net=net)
