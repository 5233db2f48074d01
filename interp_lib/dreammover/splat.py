"""Softmax splatting (DreamMover, Eq. 4): forward warping with index arithmetic that runs on any device."""

import torch
from torch import Tensor

from interp_lib.checks import check_tensors
from interp_lib.dreammover.flow import at_least_float32, check_flow, pixel_grid

EPSILON = 1e-7  # keeps a hole at 0/EPSILON = 0


def landing(flow: Tensor) -> tuple[Tensor, Tensor]:
    """List every contribution of a forward warp: the target pixel and the bilinear weight of each corner.

    flow: [N,2,h,w]. Returns (index, weight), both [N,4,h*w]: corners (left/right of the upper, then the lower row) of
    every source pixel. index counts target pixels row by row; h*w stands for "outside the image", where NaN lands too.
    """
    height, width = flow.shape[2:]
    x, y = (pixel_grid(height, width, like=flow) + flow).flatten(2).unbind(1)  # [N, hw]
    # Far away is outside, however far: the bound keeps the integers below from overflowing.
    left, top = x.detach().floor().clamp(-2, width + 1), y.detach().floor().clamp(-2, height + 1)
    right, bottom = left + 1, top + 1
    corners = [(left, top), (right, top), (left, bottom), (right, bottom)]
    weight = [(right - x) * (bottom - y), (x - left) * (bottom - y), (right - x) * (y - top), (x - left) * (y - top)]
    index = []
    for column, row in corners:
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index.append(torch.where(inside, row.long() * width + column.long(), height * width))
    return torch.stack(index, dim=1), torch.stack(weight, dim=1)


def _sum_at(index: Tensor, values: Tensor, count: int) -> Tensor:
    """Sum values [N,C,P] at index [N,P] into [N,C,count]; index = count is dropped. The order of sums is fixed."""
    batch, channels = values.shape[:2]
    if values.is_cuda:  # scatter_add sums in arrival order there; index_put sorts first, so runs repeat bit for bit
        sums = values.new_zeros(batch, count + 1, channels)
        place = (torch.arange(batch, device=values.device)[:, None], index)
        return sums.index_put(place, values.transpose(1, 2), accumulate=True).transpose(1, 2)[..., :count]
    sums = values.new_zeros(batch, channels, count + 1)
    return sums.scatter_add(2, index[:, None].expand(-1, channels, -1), values)[..., :count]


# Eq. 4
def softmax_splat(values: Tensor, flow: Tensor, metric: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Warp forwards: out = Sum(exp(M) w v) / (Sum(exp(M) w) + 1e-7), w the bilinear weight of each contribution.

    Source: DreamMover, Eq. 4 (softmax splatting, Niklaus and Liu 2020). values: [N,C,h,w]; flow: [N,2,h,w] in pixels;
    metric: M [N,1,h,w], None = 0; exp(M) must be finite, which is not checked.
    Returns (splatted [N,C,h,w], weight [N,1,h,w]); weight is the plain Sum w, unclipped, 0 in a hole.
    Differentiable in values, flow and metric. A constant image stays constant (up to 1e-7 / Sum) outside holes.
    """
    check_flow(flow, values)
    if metric is not None:
        check_tensors(metric=metric)
        if metric.shape != (expected := values[:, :1].shape):
            raise ValueError(f"metric has shape {tuple(metric.shape)}, it must be {tuple(expected)}: [N,1,h,w].")
    height, width = values.shape[2:]
    index, weight = landing(at_least_float32(flow))
    importance = weight if metric is None else weight * at_least_float32(metric).flatten(2).exp()
    moved = at_least_float32(values).flatten(2)[:, :, None] * importance[:, None]  # [N, C, 4, hw]
    terms = torch.cat([moved, importance[:, None].to(moved), weight[:, None].to(moved)], dim=1)
    sums = _sum_at(index.flatten(1), terms.flatten(2), height * width).unflatten(2, (height, width))
    splatted = sums[:, :-2] / (sums[:, -2:-1] + EPSILON)
    return splatted.to(values.dtype), sums[:, -1:].to(values.dtype)


def splat_with_coverage(values: Tensor, flow: Tensor, metric: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the normalised splats (s [N,C,h,w], m [N,1,h,w]) of the values and of an all-ones channel.

    m, the coverage in DreamMover's released code, is 0 in a hole, else near 1: not the `weight` of `softmax_splat`.
    """
    splatted, _ = softmax_splat(torch.cat([values, torch.ones_like(values[:, :1])], dim=1), flow, metric)
    return splatted[:, :-1], splatted[:, -1:]
