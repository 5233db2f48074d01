"""Do two images' feature maps share one layout? Colours from a joint PCA, and how often they find the true partner."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_tensors
from interp_lib.dreammover.features import pca_project
from interp_lib.dreammover.flow import backwarp, pixel_grid

TURNS = (60, 120, 180, 240, 300)  # degrees: every rival lies at least the displacement away from the partner
TIE = 1e-4  # of a standard deviation: distances closer than this are equal, rounding must not decide


def pca_colours(features: Tensor) -> Tensor:
    """The first three joint principal components of features [N,C,h,w], each divided by its standard deviation.

    Source: Fig. 3, which shows them as red, green and blue. Returns [N,3,h,w] of mean 0; a component that does not vary
    stays 0. Raises ValueError through `pca_project`.
    """
    components = pca_project(features)
    return components / components.std((0, 2, 3), keepdim=True, unbiased=False).clamp(min=1e-12)


def place_agreement(colours: Tensor, flow: Tensor, mask: Tensor) -> float:
    """How often the true partner of a pixel has a nearer colour than a place just as far away in another direction.

    Source: ours. colours: [2,K,h,w] of image 0 and 1, brought to the flow's grid bilinearly; flow: [1,2,H,W] from image
    0 to 1 in pixels; mask: [1,1,H,W] bool, the pixels that are asked. The rivals of a partner are the displacement
    turned by 60, 120, ... 300 degrees, where that lands inside the image. Returns a share in [0,1], ties count half:
    1/2 for colours that say nothing, and (but for partners at the border) for those that only tell where a pixel is.
    Raises ValueError for an empty mask, and where no rival lands inside.
    """
    first, second = _on_grid(colours, flow, mask)
    height, width = flow.shape[-2:]
    near = _distance(first, backwarp(second, flow))
    x, y = pixel_grid(height, width, like=flow)
    won, asked = 0.0, 0
    for angle in TURNS:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turned = torch.stack([cos * flow[:, 0] - sin * flow[:, 1], sin * flow[:, 0] + cos * flow[:, 1]], dim=1)
        u, v = x + turned[:, 0], y + turned[:, 1]
        inside = mask & ((u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1))[:, None]
        won += float(_nearer(near, _distance(first, backwarp(second, turned)))[inside].sum())
        asked += int(inside.sum())
    return _share(won, asked)


def part_agreement(colours: Tensor, flow: Tensor, mask: Tensor, *, apart: float = 0.1, most: int = 600) -> float:
    """How often the true partner of a pixel has a nearer colour than the partners of the other pixels in the mask.

    Source: ours. Arguments as in `place_agreement`; with the actor's pixels as mask the rivals are other places on the
    same actor. apart: least distance between partner and rival, in longer sides; most: pixels that are asked, about,
    evenly taken from the mask. Returns a share in [0,1], 1/2 for colours that say nothing; colours that only tell where
    a pixel is may score more, so measure them beside. Raises ValueError for an empty mask, and without any rival.
    """
    first, second = _on_grid(colours, flow, mask)
    index = mask.flatten().nonzero().flatten()
    index = index[:: max(1, len(index) // most)]
    asked, partner, place = (
        z.flatten(2)[0, :, index].T
        for z in (first, backwarp(second, flow), pixel_grid(*flow.shape[-2:], like=flow) + flow)
    )
    distance = torch.cdist(asked, partner, compute_mode="donot_use_mm_for_euclid_dist")
    rival = torch.cdist(place, place) >= apart * max(flow.shape[-2:])
    return _share(float(_nearer(distance.diagonal()[:, None], distance)[rival].sum()), int(rival.sum()))


def _on_grid(colours: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    check_tensors(colours=colours, flow=flow, mask=mask)
    if len(colours) != 2 or mask.shape != flow[:, :1].shape or mask.dtype != torch.bool or not mask.any():
        raise ValueError(
            f"agreement: give colours of two images (not {len(colours)}) and a mask with a pixel in it, torch.bool "
            f"[1,1,H,W] like the flow (not {mask.dtype} {list(mask.shape)})"
        )
    first, second = F.interpolate(colours.to(flow), flow.shape[-2:], mode="bilinear", align_corners=False).split(1)
    return first, second


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.vector_norm(first - second, dim=1, keepdim=True)


def _nearer(partner: Tensor, rival: Tensor) -> Tensor:
    """1 where the partner is nearer, 0 where the rival is, 1/2 where they are equally near."""
    return ((rival - partner > TIE).float() + (rival - partner > -TIE).float()) / 2


def _share(won: float, asked: int) -> float:
    if asked == 0:
        raise ValueError("agreement: no rival anywhere, all lie outside the image or too near the partner")
    return won / asked
