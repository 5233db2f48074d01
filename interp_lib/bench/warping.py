"""A classical optical flow, and the warping error: how far each frame is from the next one warped back along a flow.

Source: Lai et al., Learning Blind Video Temporal Consistency, 2018, Eq. 8 and released code; METHODS, section 5.
Images are `[N,3,H,W]` in [0,1], flow is `[N,2,H,W]` in image pixels (dx right, dy down).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.dreammover.flow import check_flow, pixel_grid
from interp_lib.images import as_images

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `[N,C,H,W]` at p + flow(p), bilinearly, points outside moved to the border; `backwarp` has zeros there."""
    check_flow(flow, image)
    height, width = image.shape[-2:]
    points = (pixel_grid(height, width, like=flow) + flow).permute(0, 2, 3, 1)
    points = (2 * points + 1) / points.new_tensor([width, height]) - 1  # pixel centres, for align_corners=False
    return F.grid_sample(image, points, mode="bilinear", padding_mode="border", align_corners=False)


def occluded(flow: Tensor, backward: Tensor) -> Tensor:
    """Return bool `[N,1,H,W]`: pixels that the other image does not show, or at which the motion has a boundary.

    Source: Ruder et al., 2016. flow: to the other image; backward: from it. With b the backward flow warped by the flow
    f, a pixel is occluded where |f + b|^2 > 0.01 (|f|^2 + |b|^2) + 0.5 or |grad f|^2 > 0.01 |f|^2 + 0.002; the gradient
    is by forward differences, 0 in the last row (column).
    """
    back = warp(backward, flow)
    length = flow.square().sum(1, keepdim=True)
    round_trip = (flow + back).square().sum(1, keepdim=True)
    hidden = round_trip > 0.01 * (length + back.square().sum(1, keepdim=True)) + 0.5
    right = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1))
    down = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1))
    boundary = (right.square() + down.square()).sum(1, keepdim=True) > 0.01 * length + 0.002
    return hidden | boundary


def warping_errors(images: Tensor, others: Tensor, flow: Tensor, backward: Tensor) -> Tensor:
    """Return the mean squared difference between each image and the other warped to it, `[N]`, where not occluded.

    flow: images -> others; backward: others -> images. The sum is divided by the number of visible pixels times three
    channels, by 3HW where there are none. WE is the mean over consecutive frames; WE_mid (DreamMover, section 4.2) the
    mean over the middle frame with each keyframe.
    """
    visible = ~occluded(flow, backward)
    error = visible * (warp(others, flow) - images).square()
    count = visible.flatten(1).sum(1) * images.shape[1]
    return error.flatten(1).sum(1) / torch.where(count > 0, count, images[0].numel())


def tvl1_flow(image0: Tensor, image1: Tensor) -> Tensor:
    """Return the TV-L1 optical flow image0 -> image1, [1,2,H,W] in image pixels, with scikit-image's default settings.

    Source: Zach, Pock and Bischof, A Duality Based Approach for Realtime TV-L1 Optical Flow, 2007.
    image0, image1: [1,3,H,W] in [0,1]; matched on their grey values, coarse to fine.
    """
    images = [as_images(x, name=name) for name, x in (("image0", image0), ("image1", image1))]
    if images[0].shape != images[1].shape or len(images[0]) != 1:
        shapes = " and ".join(str(list(x.shape)) for x in images)
        raise ValueError(f"tvl1_flow compares two images [1,3,H,W] of one size, not {shapes}.")
    from skimage.registration import optical_flow_tvl1  # slow to import, and few callers need it

    grey = [np.tensordot(LUMA, x[0].float().cpu().numpy(), 1) for x in images]
    down, right = optical_flow_tvl1(*grey)
    return torch.from_numpy(np.stack([right, down])).float()[None]
