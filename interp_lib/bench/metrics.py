"""Measures against ground truth. Images are `[N,3,H,W]` in [0,1], flow is `[N,2,H,W]` in pixels of its own grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.types import Pair


def psnr(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, `[N]`; infinite where they are equal.

    mask: bool `[N,1,H,W]` or `[1,1,H,W]`, the pixels that count; None is all. Raises ValueError for a mask that is
    empty in one of the images.
    """
    _same_shape(images, reference)
    error = (images - reference).square()
    if mask is None:
        return -10 * torch.log10(error.flatten(1).mean(1))
    counted = mask.expand(len(images), *mask.shape[1:]).expand_as(images)
    if not counted.flatten(1).any(1).all():
        raise ValueError("psnr: the mask is empty for one of the images; choose pixels that count")
    return -10 * torch.log10((error * counted).flatten(1).sum(1) / counted.flatten(1).sum(1))


def moving_pixels(pair: Pair, middle: Tensor, *, least: float = 0.15) -> Tensor:
    """Where something moves: bool `[1,1,H,W]`, pixels that show an actor at an end, or differ there from the middle.

    Source: ours. middle: the true frame between `[1,3,H,W]`. least: difference in a channel that counts, in [0,1].
    """
    changed = [(middle - end).abs().amax(1, keepdim=True) > least for end in (pair.image0, pair.image1)]
    actors = [actor for actor in (pair.actor0, pair.actor1) if actor is not None]
    return torch.stack(changed + actors).any(0)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow brought to another grid: every pixel takes its cell's vector, which is scaled to the new pixels."""
    height, width = flow.shape[-2:]
    scale = flow.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)
    return F.interpolate(flow, size=size, mode="nearest-exact") * scale


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Length of the difference at every pixel, `[N,1,H,W]`, in pixels."""
    _same_shape(flow, truth)
    return (flow - truth).square().sum(1, keepdim=True).sqrt()


def pck(flow: Tensor, truth: Tensor, mask: Tensor, *, radius: float = 0.1) -> float:
    """PCK@radius: the share of pixels in `mask` `[N,1,H,W]` whose end-point error is at most radius x the longer image
    side.

    Raises ValueError for an empty mask: a share of nothing has no value.
    """
    if not mask.any():
        raise ValueError("pck: the mask is empty; choose a pair with pixels that are visible in both images")
    error = end_point_error(flow, truth)[mask]
    return float((error <= radius * max(truth.shape[-2:])).float().mean())


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ValueError(f"shapes {tuple(first.shape)} and {tuple(second.shape)} differ: both must be on one grid")
