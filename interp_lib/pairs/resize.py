"""A pair at another size, its truth with it."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.images import plan_fit
from interp_lib.types import Pair


def resize_pair(pair: Pair, size: int | tuple[int, int] | None) -> Pair:
    """Resize a pair to cover `size` (int = square, or (h, w)), crop it at the centre, and say so in the notes.

    Flow is sampled at the nearest pixel, since a mean over an edge is the motion of neither side, and scaled by the
    resize; a pixel whose partner the crop has cut off is no longer visible.
    """
    height, width = pair.image0.shape[-2:]
    fit = plan_fit(height, width, size=(height, width) if size is None else size, multiple=1)
    if not fit.notes():
        return pair

    def nearest(x: Tensor | None) -> Tensor | None:
        return None if x is None else fit.crop(F.interpolate(x.float(), fit.resized, mode="nearest-exact").to(x.dtype))

    fields = {name: nearest(getattr(pair, name)) for name in ("flow01", "flow10", "actor0", "actor1")}
    scale = torch.tensor([fit.resized[1] / width, fit.resized[0] / height]).view(1, 2, 1, 1)
    for way in ("01", "10"):
        flow, visible = fields[f"flow{way}"], nearest(getattr(pair, f"visible{way}"))
        if flow is not None:
            fields[f"flow{way}"] = flow = flow * scale.to(flow)
            visible = visible if visible is None else visible & lands_inside(flow)
        fields[f"visible{way}"] = visible
    for name in ("image0", "image1", "frames"):
        fields[name] = None if (x := getattr(pair, name)) is None else fit.images(x)
    return replace(pair, **fields, notes=[*pair.notes, *(f"{pair.name}: {note}" for note in fit.notes())])


def lands_inside(flow: Tensor) -> Tensor:
    """Return [N,1,H,W] bool: whether the flow of a pixel ends within the image."""
    height, width = flow.shape[-2:]
    x = flow[:, :1] + torch.arange(width, dtype=flow.dtype, device=flow.device)
    y = flow[:, 1:] + torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
