"""Diffusion-aware flow (DreamMover, Sec. 3.2), [N,2,h,w]: dx (right) and dy (down), in pixels of its own grid."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_int, check_number, check_size, check_tensors

Size = int | tuple[int, int] | None  # (h, w), or the side of a square, to resize features to; None keeps their grid
# Cosines closer than this count as equal: a hundred times float64 rounding, far below any gap that means something.
COSINE_TIE = 1e-12


def pixel_grid(height: int, width: int, *, like: Tensor) -> Tensor:
    """Return the coordinates (x, y) of every pixel, [2,height,width], with the device and dtype of `like`."""
    x, y = (torch.arange(n, device=like.device, dtype=like.dtype) for n in (width, height))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x`, widened to float32 if it is narrower: half precision holds neither exp(10) sums nor sub-pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_flow(flow: Tensor, like: Tensor) -> None:
    """Raise ValueError unless `flow` is [N,2,h,w] on the grid and batch of `like` [N,C,h,w]; values may be NaN."""
    check_tensors(flow=flow, image=like)
    if like.ndim != 4 or tuple(flow.shape) != (like.shape[0], 2, *like.shape[2:]):
        shapes = f"flow has shape {tuple(flow.shape)} and the image {tuple(like.shape)}"
        raise ValueError(f"{shapes}: a flow for [N,C,h,w] is [N,2,h,w].")


# Eq. 5
@torch.no_grad()
def match_features(source: Tensor, target: Tensor, *, size: Size = None, tile: int = 4096) -> Tensor:
    """Match every source pixel to the target pixel of largest cosine similarity; return the flow source -> target.

    Source: DreamMover, Sec. 3.2, Eq. 5. source, target: [N,C,h,w] features. size: the grid to match on, (h, w) or one
    side of a square; None keeps the features' own. tile: source pixels compared at once, which bounds the memory.
    Returns [N,2,h,w], whole numbers, in pixels of `size`. Exact: cosines are float64 wherever float32 cannot decide,
    equal ones (within 1e-12) go to the lowest target index, row by row. Raises ValueError for features that do not fit.
    """
    tile = check_int("tile", tile, 1)
    _check_features(source, target, size)
    # MPS has no float64, and exactness needs it.
    wide = [(f.cpu() if f.device.type == "mps" else f).double() for f in (source, target)]
    rows, columns = (_on_grid(f, size) for f in wide)
    height, width = rows.shape[2:]
    vectors = zip(rows.flatten(2), columns.flatten(2), strict=True)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")  # whatever (TF32, bfloat16) is allowed elsewhere
        index = torch.stack([_best_columns(a, b, tile) for a, b in vectors])
    finally:
        torch.set_float32_matmul_precision(precision)
    landing = torch.stack([index % width, index // width], dim=1).unflatten(2, (height, width))
    flow = landing - pixel_grid(height, width, like=landing)
    return flow.to(source.device, torch.promote_types(source.dtype, torch.float32))


def _best_columns(a: Tensor, b: Tensor, tile: int) -> Tensor:
    """For every column of a [C,n], return the column of b [C,m] with the largest product; unit vectors in float64.

    Most are settled in float32, whose products are off by at most C+2 roundings of half an `eps`; else float64 decides.
    """
    narrow_a, narrow_b = a.float(), b.float()
    margin = (len(a) + 2) * torch.finfo(torch.float32).eps  # of two products
    best = []
    for begin in range(0, a.shape[1], tile):
        scores = narrow_a[:, begin : begin + tile].T @ narrow_b
        near = scores >= scores.amax(dim=1, keepdim=True) - margin
        index = near.view(torch.uint8).argmax(dim=1)
        unsure = (near.sum(dim=1) > 1).nonzero()[:, 0]
        if len(unsure):
            exact = a[:, begin + unsure].T @ b
            equal = exact >= exact.amax(dim=1, keepdim=True) - COSINE_TIE
            index[unsure] = equal.view(torch.uint8).argmax(dim=1)  # the lowest one among equals
        best.append(index)
    return torch.cat(best)


def _on_grid(features: Tensor, size: Size) -> Tensor:
    if size is not None:
        features = F.interpolate(features, size=check_size("size", size, 1), mode="bilinear", align_corners=False)
    return F.normalize(features, dim=1, eps=torch.finfo(features.dtype).tiny)


def _check_features(source: Tensor, target: Tensor, size: Size) -> None:
    check_tensors(source=source, target=target)
    for name, features in (("source", source), ("target", target)):
        if features.ndim != 4 or not features.is_floating_point() or min(features.shape) < 1:
            raise ValueError(f"{name} must be a float tensor [N,C,h,w] of features, not {tuple(features.shape)}.")
        if not torch.isfinite(features).all():
            raise ValueError(f"{name} holds NaN or infinite features: check the network's dtype, float32 is safe.")
    if source.shape[:2] != target.shape[:2] or (size is None and source.shape != target.shape):
        shapes = f"source {tuple(source.shape)} and target {tuple(target.shape)} must agree in batch, channels and grid"
        raise ValueError(f"{shapes}: take both from one block of one model, or give size=(h, w), one grid for both.")


def combine_features(features: Sequence[Tensor], *, size: Size = None) -> Tensor:
    """Join several feature maps of the same images (timesteps, blocks) so that their cosine is the mean of cosines.

    Source: ours (refinement of DreamMover, Sec. 3.2): unit vectors laid end to end, whose product is the sum. features:
    maps [N,C_k,h,w]; size: resize them to this grid first. Returns [N, sum C_k, h, w] of unit vectors.
    """
    if isinstance(features, Tensor) or not isinstance(features, Sequence) or not features:
        what = "empty" if isinstance(features, Sequence) else f"a {type(features).__name__}"
        raise ValueError(f"features is {what}: give a list of at least one feature map [N,C,h,w].")
    for f in features:
        _check_features(f, f, None)
    if size is None and len({f.shape[2:] for f in features}) > 1:
        raise ValueError("the feature maps differ in grid: give size=(h, w) to resize them to one.")
    return torch.cat([_on_grid(at_least_float32(f), size) for f in features], dim=1) / math.sqrt(len(features))


def refine_subpixel(
    source: Tensor, target: Tensor, flow: Tensor, *, size: Size = None, radius: int = 1, temperature: float = 0.02
) -> Tensor:
    """Refine a matched flow [N,2,h,w] to sub-pixels: the soft-argmax of the cosine in a window around the match.

    Source: ours (refinement of DreamMover, Eq. 5; off by default). source, target, size: as given to `match_features`.
    The window is (2*radius+1)^2 target pixels, those outside the image left out; temperature is in units of cosine.
    Returns [N,2,h,w], at most `radius` pixels from `flow`; differentiable with respect to the features.
    """
    _check_features(source, target, size)
    radius = check_int("radius", radius, 0)
    temperature = check_number("temperature", temperature, 0, above=True)
    source, target = (_on_grid(at_least_float32(f), size) for f in (source, target))
    check_flow(flow, source)
    height, width = source.shape[2:]
    x, y = (pixel_grid(height, width, like=source) + flow).round().long().unbind(1)
    window = [(dx, dy) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    scores = []
    for dx, dy in window:
        inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
        index = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
        matched = target.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, target.shape[1], -1))
        cosine = (source * matched.view_as(source)).sum(1)
        scores.append(torch.where(inside, cosine / temperature, -math.inf))
    weight = torch.stack(scores, dim=1).softmax(dim=1)  # [N, window, h, w]
    shift = torch.einsum("nkhw,kc->nchw", weight, weight.new_tensor(window))
    return flow + shift.to(flow.dtype)


def consistency_mask(flow01: Tensor, flow10: Tensor, *, tolerance: float = 2.0) -> Tensor:
    """Mark where the flow there and back returns to within `tolerance` pixels of its start.

    Source: ours. flow01, flow10: [N,2,h,w]. Returns bool [N,1,h,w] on the grid of image 0; False where flow01 leaves.
    """
    check_flow(flow01, flow01)
    check_flow(flow10, flow01)
    tolerance = check_number("tolerance", tolerance, 0)
    height, width = flow01.shape[2:]
    x, y = (pixel_grid(height, width, like=flow01) + flow01).unbind(1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    distance = torch.linalg.vector_norm(flow01 + backwarp(flow10, flow01), dim=1)
    return (inside & (distance <= tolerance))[:, None]


def backwarp(image: Tensor, flow: Tensor) -> Tensor:
    """Warp an image backwards along a flow: out(p) = image(p + flow(p)), bilinear, zero outside the image.

    Source: the warp inside the brightness metric of softmax splatting (Niklaus and Liu 2020), DreamMover Eq. 4.
    image: [N,C,h,w]; flow: [N,2,h,w] in its pixels. Returns [N,C,h,w]; differentiable in both.
    """
    check_flow(flow, image)
    height, width = image.shape[2:]
    flow = at_least_float32(flow)
    # In pixels the two align_corners conventions are one map; this one also holds for an image one pixel wide.
    x, y = (pixel_grid(height, width, like=flow) + flow).unbind(1)
    points = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    wide = image.to(torch.promote_types(image.dtype, flow.dtype))
    warped = F.grid_sample(wide, points.to(wide.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped.to(image.dtype)


# Eq. 4: its importance M, which the paper names and does not give
def brightness_metric(a: Tensor, b: Tensor, flow: Tensor, *, alpha: float = 10.0, ones_channel: bool = False) -> Tensor:
    """Return the splatting importance M = clip(-alpha * L1, -10, 10), L1 = mean over channels of |a - backwarp(b)|.

    Source: DreamMover, Eq. 4; alpha = 10 and the clip are its released code's. a, b: [N,C,h,w] latents of the image to
    be splatted and of the other one; flow: a -> b, [N,2,h,w]. ones_channel: append a channel of ones to both first, as
    the released code does. Returns M, [N,1,h,w], in [-10, 0] for alpha >= 0: 0 where the two agree.
    """
    check_tensors(a=a, b=b)
    alpha = check_number("alpha", alpha)
    if a.shape != b.shape:
        raise ValueError(f"a {tuple(a.shape)} and b {tuple(b.shape)} must have the same shape: latents of one pair.")
    a, b = at_least_float32(a), at_least_float32(b)
    if ones_channel:
        a, b = (torch.cat([x, torch.ones_like(x[:, :1])], dim=1) for x in (a, b))
    loss = (a - backwarp(b, flow)).abs().mean(dim=1, keepdim=True)
    return (-alpha * loss).clamp(-10.0, 10.0)
