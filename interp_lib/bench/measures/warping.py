"""The warping error: how far each frame is from the next one, taken back along the motion, where both see the same.

Flow is `[N,2,H,W]` in image pixels (dx right, dy down).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.dreammover.flow import at_least_float32, check_flow, pixel_grid


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """The image seen through a flow: out(p) = image(p + flow(p)), bilinear, points outside moved to the border.

    image: `[N,C,H,W]`; flow: `[N,2,H,W]` in its pixels, from the grid of the result. Returns `[N,C,H,W]`.
    """
    check_flow(flow, image)
    height, width = image.shape[-2:]
    image, flow = at_least_float32(image), at_least_float32(flow)
    wide = torch.promote_types(image.dtype, flow.dtype)
    points = (pixel_grid(height, width, like=flow) + flow).permute(0, 2, 3, 1).to(wide)
    points = (2 * points + 1) / points.new_tensor([width, height]) - 1  # pixel centres, for align_corners=False
    return F.grid_sample(image.to(wide), points, mode="bilinear", padding_mode="border", align_corners=False)


def occluded(flow: Tensor, backward: Tensor) -> Tensor:
    """Bool `[N,1,H,W]`: pixels that the other image does not show, or at which the motion has a boundary.

    Source: Lai et al., Learning Blind Video Temporal Consistency, 2018, after Ruder et al., 2016; METHODS, section 5.
    flow: to the other image; backward: from it, both `[N,2,H,W]`. With b the backward flow warped by the flow f, a
    pixel is occluded where |f + b|^2 > 0.01 (|f|^2 + |b|^2) + 0.5 or |grad f|^2 > 0.01 |f|^2 + 0.002; the gradient is
    by forward differences, 0 in the last row (column). Raises ValueError for flows that differ in shape.
    """
    back = warp(backward, flow)
    flow = flow.to(back.dtype)
    length = flow.square().sum(1, keepdim=True)
    there_and_back = (flow + back).square().sum(1, keepdim=True)
    lost = there_and_back > 0.01 * (length + back.square().sum(1, keepdim=True)) + 0.5
    right = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1))
    down = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1))
    boundary = (right.square() + down.square()).sum(1, keepdim=True) > 0.01 * length + 0.002
    return lost | boundary


def warping_errors(
    images: Tensor, others: Tensor, flow: Tensor, backward: Tensor, visible: Tensor | None = None
) -> Tensor:
    """Mean squared difference between each image and the other one warped to it, `[N]`, over what is not occluded.

    images, others: `[N,3,H,W]` in [0,1]; flow: images -> others, backward: others -> images, both `[N,2,H,W]`. visible:
    bool `[N,1,H,W]`, pixels that may count at all (None: every one). The sum is divided by the number of counted pixels
    times three channels, by 3HW where there are none. Raises ValueError for shapes that do not fit together.
    """
    if images.ndim != 4 or images.shape != others.shape:
        shapes = f"{tuple(images.shape)} and {tuple(others.shape)}"
        raise ValueError(f"the warping error compares images of one shape [N,3,H,W], not {shapes}.")
    check_flow(flow, images)
    check_flow(backward, images)
    counted = ~occluded(flow, backward)
    if visible is not None:
        if visible.shape != counted.shape or visible.dtype != torch.bool:
            found = f"{visible.dtype} {tuple(visible.shape)}"
            raise ValueError(f"visible must be a bool tensor {tuple(counted.shape)}, a pixel each, not {found}.")
        counted = counted & visible
    error = counted * (warp(others, flow) - images).square()
    total = counted.flatten(1).sum(1) * images.shape[1]
    everything = images[0].numel()
    return error.flatten(1).sum(1) / torch.where(total > 0, total, everything)


def warping_error(frames: Tensor, flows: Tensor, backward_flows: Tensor, visible: Tensor | None = None) -> float:
    """WE: the mean of `warping_errors` over consecutive frames; 0 for frames that the flow turns into each other.

    Source: Lai et al., 2018, Eq. 8 and released code; METHODS, section 5. Tables also give it times 100.
    frames: `[T,3,H,W]`; flows: frame t -> t+1, backward_flows: t+1 -> t, both `[T-1,2,H,W]`; visible: see there.
    Raises ValueError for fewer than two frames and for flows that are not one a pair of neighbours.
    """
    if frames.ndim != 4 or len(frames) < 2:
        raise ValueError(f"frames has shape {tuple(frames.shape)}: a warping error needs two or more, [T,3,H,W].")
    return float(warping_errors(frames[:-1], frames[1:], flows, backward_flows, visible).mean())


def warping_error_middle(
    middle: Tensor, endpoints: Tensor, flows: Tensor, backward_flows: Tensor, visible: Tensor | None = None
) -> float:
    """WE_mid: the same between the middle frame and each of the two endpoints, averaged.

    Source: DreamMover, section 4.2; METHODS, section 5. Both endpoints are warped to the middle frame, which is judged.
    middle: `[1,3,H,W]`, frame T//2 of T; endpoints: `[2,3,H,W]`; flows: middle -> endpoint, backward_flows: endpoint ->
    middle, both `[2,2,H,W]`. Raises ValueError for shapes that do not fit together.
    """
    if endpoints.ndim != 4 or len(endpoints) != 2 or middle.shape != endpoints[:1].shape:
        shapes = f"{tuple(middle.shape)} and {tuple(endpoints.shape)}"
        raise ValueError(f"WE_mid takes a middle frame [1,3,H,W] and two endpoints [2,3,H,W], not {shapes}.")
    return float(warping_errors(middle.expand_as(endpoints), endpoints, flows, backward_flows, visible).mean())
