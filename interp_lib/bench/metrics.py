"""Measures against ground truth. Images are `[N,3,H,W]` in [0,1], flow is `[N,2,H,W]` in pixels of its own grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_number, check_size, check_tensors
from interp_lib.types import Pair


def psnr(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, `[N]`; infinite where they are equal.

    mask: bool `[N,1,H,W]` or `[1,1,H,W]`, the pixels that count; None is all. Raises ValueError for a mask that is
    empty in one of the images.
    """
    _same_shape(images, reference)
    _check_mask("psnr", mask, images)
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
    check_tensors(middle=middle)
    if middle.shape != pair.image0.shape:
        raise ValueError(f"middle has shape {list(middle.shape)}: give a frame {list(pair.image0.shape)} of the pair.")
    changed = [(middle - end).abs().amax(1, keepdim=True) > least for end in (pair.image0, pair.image1)]
    actors = [actor for actor in (pair.actor0, pair.actor1) if actor is not None]
    return torch.stack(changed + actors).any(0)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow brought to another grid: every pixel takes its cell's vector, which is scaled to the new pixels."""
    check_tensors(flow=flow)
    size = check_size("size", size, 1)
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
    _same_shape(flow, truth)
    _check_mask("pck", mask, flow)
    radius = check_number("radius", radius, 0)
    if not mask.any():
        raise ValueError("pck: the mask is empty; choose a pair with pixels that are visible in both images")
    error = end_point_error(flow, truth)[mask]
    return float((error <= radius * max(truth.shape[-2:])).float().mean())


def _check_mask(use: str, mask: Tensor | None, x: Tensor) -> None:
    """ValueError unless the mask is None or bool [N,1,H,W] or [1,1,H,W] on the grid of x [N,C,H,W]."""
    if mask is None:
        return
    check_tensors(mask=mask)
    fits = mask.ndim == 4 and len(mask) in (1, len(x)) and mask.shape[1:] == (1, *x.shape[2:])
    if mask.dtype != torch.bool or not fits:
        found = f"{mask.dtype} {list(mask.shape)}"
        raise ValueError(f"{use}: the mask is {found}: give torch.bool {[len(x), 1, *x.shape[2:]]}, or one for all.")


def _same_shape(first: Tensor, second: Tensor) -> None:
    check_tensors(first=first, second=second)
    if first.shape != second.shape:
        raise ValueError(f"shapes {tuple(first.shape)} and {tuple(second.shape)} differ: both must be on one grid")
