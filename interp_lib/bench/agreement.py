"""Do the feature maps of two images share one layout? Joint PCA colours, and how often they find the true partner."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_tensors
from interp_lib.dreammover.features import pca_project
from interp_lib.dreammover.flow import backwarp, pixel_grid

ANGLES = (60, 120, 180, 240, 300)  # degrees: every rival lies at least the displacement away from the partner
TIE = 1e-4  # of a standard deviation: distances closer than this are equal, so that rounding does not decide


def pca_colours(features: Tensor) -> Tensor:
    """Return the first three joint principal components of features [N,C,h,w], each over its standard deviation.

    Source: Fig. 3, which shows them as red, green and blue. Returns [N,3,h,w] of mean 0; a component that does not vary
    stays 0.
    """
    components = pca_project(features)
    return components / components.std((0, 2, 3), keepdim=True, unbiased=False).clamp(min=1e-12)


def place_agreement(colours: Tensor, flow: Tensor, mask: Tensor) -> float:
    """Return how often the true partner of a pixel is nearer in colour than a place as far away in another direction.

    Source: ours. colours: [2,K,h,w] of image 0 and 1, resized bilinearly to the flow's grid; flow: [1,2,H,W] from image
    0 to 1 in pixels; mask: [1,1,H,W] bool, the pixels that are compared. The rivals of a partner are the displacement
    rotated by 60, 120, ... 300 degrees, where that lands inside the image. A share in [0,1], ties count half: 1/2 for
    colours that say nothing, and (but for partners at the border) for those that only tell where a pixel is.
    """
    first, second = _on_grid(colours, flow, mask)
    height, width = flow.shape[-2:]
    partner = (first - backwarp(second, flow)).norm(dim=1, keepdim=True)
    x, y = pixel_grid(height, width, like=flow)
    won, compared = 0.0, 0
    for angle in ANGLES:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        rotated = torch.stack([cos * flow[:, 0] - sin * flow[:, 1], sin * flow[:, 0] + cos * flow[:, 1]], dim=1)
        u, v = x + rotated[:, 0], y + rotated[:, 1]
        inside = mask & ((u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1))[:, None]
        rival = (first - backwarp(second, rotated)).norm(dim=1, keepdim=True)
        won += float(_partner_wins(partner, rival)[inside].sum())
        compared += int(inside.sum())
    return won / compared


def part_agreement(colours: Tensor, flow: Tensor, mask: Tensor) -> float:
    """Return how often the true partner of a pixel is nearer in colour than the partners of other pixels in the mask.

    Source: ours. Arguments as in `place_agreement`; with the object's pixels as mask the rivals are other places on the
    same object, at least a tenth of the longer side away. About 600 pixels, taken evenly from the mask, are compared. A
    share in [0,1], 1/2 for colours that say nothing; those that only tell where a pixel is may score more.
    """
    first, second = _on_grid(colours, flow, mask)
    index = mask.flatten().nonzero().flatten()
    index = index[:: max(1, len(index) // 600)]
    landed = pixel_grid(*flow.shape[-2:], like=flow) + flow
    own, partner, place = (z.flatten(2)[0, :, index].T for z in (first, backwarp(second, flow), landed))
    distance = torch.cdist(own, partner, compute_mode="donot_use_mm_for_euclid_dist")
    rival = torch.cdist(place, place) >= 0.1 * max(flow.shape[-2:])
    return float(_partner_wins(distance.diagonal()[:, None], distance)[rival].sum()) / int(rival.sum())


def _on_grid(colours: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    check_tensors(colours=colours, flow=flow, mask=mask)
    if len(colours) != 2 or mask.shape != flow[:, :1].shape or mask.dtype != torch.bool or not mask.any():
        rule = f"give colours of two images (not {len(colours)}) and a mask, bool [1,1,H,W] and not empty"
        raise ValueError(f"agreement: {rule} (not {mask.dtype} {list(mask.shape)}).")
    first, second = F.interpolate(colours.to(flow), flow.shape[-2:], mode="bilinear", align_corners=False).split(1)
    return first, second


def _partner_wins(partner: Tensor, rival: Tensor) -> Tensor:
    """Return 1 where the partner is nearer, 0 where the rival is, 1/2 where they are equally near."""
    return ((rival - partner > TIE).float() + (rival - partner > -TIE).float()) / 2
