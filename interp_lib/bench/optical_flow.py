"""A classical optical flow on the pixels themselves, by scikit-image."""

import numpy as np
import torch
from torch import Tensor

from interp_lib.images import as_images

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def tvl1_flow(image0: Tensor, image1: Tensor) -> Tensor:
    """Return the TV-L1 optical flow image0 -> image1, [1,2,H,W] in image pixels, with scikit-image's default settings.

    Source: Zach, Pock and Bischof, A Duality Based Approach for Realtime TV-L1 Optical Flow, 2007.
    image0, image1: [1,3,H,W] in [0,1]; matched on their grey values, coarse to fine, so that a motion must be visible
    on a coarser image before it is refined. Raises ValueError for images of different sizes and for more than one pair.
    """
    images = [as_images(x, name=name) for name, x in (("image0", image0), ("image1", image1))]
    if images[0].shape != images[1].shape or len(images[0]) != 1:
        shapes = " and ".join(str(list(x.shape)) for x in images)
        raise ValueError(f"tvl1_flow compares two images [1,3,H,W] of one size, not {shapes}.")
    from skimage.registration import optical_flow_tvl1  # slow to import, and few callers need it

    grey = [np.tensordot(LUMA, x[0].float().cpu().numpy(), 1) for x in images]
    down, right = optical_flow_tvl1(*grey)
    return torch.from_numpy(np.stack([right, down])).float()[None]
