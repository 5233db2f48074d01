"""The Middlebury motorcycle: two photographs of one scene from the scikit-image wheel, with true disparity."""

from __future__ import annotations

import torch
from torch import Tensor

from interp_lib.images import from_bytes
from interp_lib.pairs.resize import lands_inside
from interp_lib.types import Pair


def load_motorcycle() -> Pair:
    """The stereo pair at 741x500, left photograph first; both flows are horizontal and come from the true disparity.

    Source: Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", GCPR 2014.
    The left pixel x is the right pixel x - disparity, so flow01 = (-disparity, 0) in pixels of these images; flow10 is
    its forward mapping, the nearer surface winning. `visible01/10` mark the pixels whose flow is measured and whose
    partner is seen in the other image; the others carry the flow of the background beside them.
    """
    from skimage.data import stereo_motorcycle

    left, right, disparity = stereo_motorcycle()
    disparity = torch.from_numpy(disparity.copy())
    measured = torch.isfinite(disparity)
    back, landed = _forward(disparity, measured)
    disparity, back = _fill(disparity, measured), _fill(back, landed)
    flow01, flow10 = _horizontal(-disparity), _horizontal(back)
    # Seen in both: what the other image shows at the landing point has the same disparity (it is the same surface).
    column = torch.arange(disparity.shape[1]).expand_as(disparity)
    target = (column - disparity).round().long().clamp(0, disparity.shape[1] - 1)
    same = (back.gather(1, target) - disparity).abs() <= 1
    visible01 = (measured & same)[None, None] & lands_inside(flow01)
    share = 100 * float((~measured).float().mean())
    return Pair(
        "motorcycle",
        from_bytes(left),
        from_bytes(right),
        flow01=flow01,
        flow10=flow10,
        visible01=visible01,
        visible10=landed[None, None] & lands_inside(flow10),
        caption="a photograph of a motorcycle in a garage",
        notes=[f"motorcycle: {share:.0f} % of the disparities are unknown, filled from beside and marked not visible"],
    )


def _forward(disparity: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Disparity [H,W] of the left image seen from the right one, and where anything landed."""
    rows, columns = known.nonzero(as_tuple=True)
    values = disparity[rows, columns]
    target = (columns - values).round().long()
    inside = target >= 0
    seen = torch.full_like(disparity, -1).view(-1)
    index = (rows * disparity.shape[1] + target)[inside]
    seen.scatter_reduce_(0, index, values[inside], "amax")  # of two surfaces on one pixel the nearer is seen
    seen = seen.view_as(disparity)
    return seen, seen >= 0


def _fill(values: Tensor, known: Tensor) -> Tensor:
    """Unknown entries take the smaller (farther) of the next known ones to the left and right in their row."""
    width = values.shape[1]
    column = torch.arange(width).expand_as(values)
    before = torch.where(known, column, -1).cummax(1).values
    after = torch.where(known, column, width).flip(1).cummin(1).values.flip(1)
    padded = torch.cat([torch.where(known, values, torch.inf), torch.full_like(values[:, :1], torch.inf)], 1)
    filled = torch.minimum(padded.gather(1, before % (width + 1)), padded.gather(1, after))
    return filled.masked_fill(torch.isinf(filled), 0)


def _horizontal(dx: Tensor) -> Tensor:
    return torch.stack([dx, torch.zeros_like(dx)])[None]
