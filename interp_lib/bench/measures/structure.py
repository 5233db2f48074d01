"""Structural similarity, by scikit-image."""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 11  # pixels a side, with the 1.5 px Gaussian of the paper


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Mean structural similarity of each image with its reference, `[N]` float64, at most 1 (equal images).

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004: Gaussian window
    of 11x11 pixels and sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03, a range of 1, windows that lie wholly
    inside the image. Taken in each colour channel and averaged, at the images' own size.
    images, reference: `[N,3,H,W]` in [0,1]. Raises ValueError for shapes that differ and for a side under 11 pixels.
    """
    if images.ndim != 4 or images.shape != reference.shape or min(images.shape) == 0:
        shapes = f"{tuple(images.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"ssim compares images and reference of one shape [N,3,H,W], not {shapes}.")
    if min(images.shape[-2:]) < WINDOW:
        height, width = images.shape[-2:]
        raise ValueError(f"ssim needs {WINDOW} pixels a side for its window, not {width}x{height}: use larger images.")
    from skimage.metrics import structural_similarity  # slow to load, and few need it

    values = [
        structural_similarity(
            a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(*(x.detach().double().cpu().numpy() for x in (images, reference)), strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)
