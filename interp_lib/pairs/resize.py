"""A pair at another size, its truth with it."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.images import Fit, plan_fit
from interp_lib.types import Pair


def resize_pair(pair: Pair, size: int | tuple[int, int] | None) -> Pair:
    """`pair` resized to cover `size` (int = square, or (h, w)) with its aspect kept, and cropped at the centre.

    Flow is sampled at the nearest pixel, since a mean over an edge is the motion of neither side, and scaled by the
    resize; a pixel whose partner the crop has cut off is no longer visible. What was done is appended to the notes.
    """
    if size is None:
        return pair
    fit = plan_fit(*pair.image0.shape[-2:], size=size, multiple=1)
    if not fit.notes():
        return pair
    flow01, flow10 = _flow(pair.flow01, fit), _flow(pair.flow10, fit)
    return replace(
        pair,
        image0=fit.images(pair.image0),
        image1=fit.images(pair.image1),
        frames=None if pair.frames is None else fit.images(pair.frames),
        flow01=flow01,
        flow10=flow10,
        visible01=_visible(pair.visible01, flow01, fit),
        visible10=_visible(pair.visible10, flow10, fit),
        actor0=_nearest(pair.actor0, fit),
        actor1=_nearest(pair.actor1, fit),
        notes=[*pair.notes, *(f"{pair.name}: {note}" for note in fit.notes())],
    )


def lands_inside(flow: Tensor) -> Tensor:
    """[N,1,H,W] bool: the pixel's flow ends within the image."""
    height, width = flow.shape[-2:]
    x = flow[:, :1] + torch.arange(width, dtype=flow.dtype, device=flow.device)
    y = flow[:, 1:] + torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _flow(flow: Tensor | None, fit: Fit) -> Tensor | None:
    if flow is None:
        return None
    (height, width), (new_height, new_width) = fit.source, fit.resized
    return _nearest(flow, fit) * flow.new_tensor([new_width / width, new_height / height]).view(1, 2, 1, 1)


def _visible(visible: Tensor | None, flow: Tensor | None, fit: Fit) -> Tensor | None:
    if visible is None or flow is None:
        return _nearest(visible, fit)
    return _nearest(visible, fit) & lands_inside(flow)


def _nearest(x: Tensor | None, fit: Fit) -> Tensor | None:
    if x is None:
        return None
    return fit.crop(F.interpolate(x.float(), fit.resized, mode="nearest-exact").to(x.dtype))
