"""Flow, splatting and fusion: shapes, finiteness, and the identities that the formulas promise."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lib import (
    backwarp,
    brightness_metric,
    combine_features,
    fuse_direct,
    fuse_two_level,
    match_features,
    refine_subpixel,
    softmax_splat,
    winning_source,
)
from tests.robustness.tensors import ROUNDING, SCALES, check_same, fuzz, grids, laid_out, noise


@fuzz
@given(grid=grids(), reach=st.sampled_from([0.0, 0.3, 3.0, 1e6, 1e30]), scale=SCALES)
def test_backwarp(grid, reach, scale):
    shape, dtype, generator, layout = grid
    wide = torch.float64 if dtype == torch.float64 else torch.float32  # of the flow: half precision has no 1e30
    image, flow = (
        noise(shape, dtype, generator, scale=scale),
        noise((shape[0], 2, *shape[2:]), wide, generator, scale=reach),
    )
    warped = backwarp(image, flow)
    assert warped.shape == image.shape and warped.dtype == dtype and bool(torch.isfinite(warped).all())
    assert float(warped.double().abs().max()) <= float(image.double().abs().max()) * (1 + ROUNDING[dtype])
    check_same(warped, backwarp(laid_out(image, layout), laid_out(flow, layout)), dtype, scale=scale)
    check_same(backwarp(image, torch.zeros_like(flow)), image, dtype, scale=scale)


@fuzz
@given(grid=grids(), reach=st.sampled_from([0.0, 0.3, 3.0, 1e6, 1e30]), metric=st.sampled_from([None, 0.0, 3.0]))
def test_softmax_splat(grid, reach, metric):
    shape, dtype, generator, layout = grid
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    flow_shape = (shape[0], 2, *shape[2:])
    values, flow = noise(shape, dtype, generator), noise(flow_shape, wide, generator, scale=reach)
    importance = None if metric is None else noise((shape[0], 1, *shape[2:]), wide, generator, scale=metric)
    splatted, weight = softmax_splat(values, flow, importance)
    assert splatted.shape == values.shape and weight.shape == values[:, :1].shape
    assert bool(torch.isfinite(splatted).all()) and bool(torch.isfinite(weight).all()) and float(weight.min()) >= 0
    assert float(weight.double().sum()) <= weight.numel() * (1 + ROUNDING[dtype])  # nothing lands twice
    assert float(splatted.double().abs().max()) <= float(values.double().abs().max()) + ROUNDING[dtype]
    again = softmax_splat(laid_out(values, layout), laid_out(flow, layout), importance)
    check_same(splatted, again[0], dtype), check_same(weight, again[1], dtype)
    still, ones = softmax_splat(values, torch.zeros_like(flow))
    check_same(still, values, dtype, share=2e-7), check_same(ones, torch.ones_like(ones), dtype)
    flat, weight = softmax_splat(torch.ones_like(values), flow)
    seen = (weight > 0.01).expand_as(flat)
    assert bool(((flat - 1).abs()[seen] < 1e-4 + ROUNDING[dtype]).all())  # a constant image stays constant


@fuzz
@given(grid=grids(batch=1), reach=st.sampled_from([0.0, 0.3, 3.0, 1e6]), delta=st.sampled_from([0, 0.25, 0.5, 1.0]))
def test_fusion(grid, reach, delta):
    shape, dtype, generator, layout = grid
    clean0, clean1, noise0, noise1 = (noise(shape, dtype, generator) for _ in range(4))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    flow01, flow10 = (noise((1, 2, *shape[2:]), wide, generator, scale=reach) for _ in range(2))
    for preset in ("paper", "released"):
        mixed = fuse_direct(clean0, clean1, flow01, flow10, delta, preset=preset)
        assert mixed.shape == clean0.shape and mixed.dtype == dtype and bool(torch.isfinite(mixed).all())
        other = fuse_direct(*(laid_out(x, layout) for x in (clean0, clean1, flow01, flow10)), delta, preset=preset)
        check_same(mixed, other, dtype, scale=10)
        fused = fuse_two_level(clean0, clean1, noise0, noise1, flow01, flow10, delta, 0.5, preset=preset)
        assert all(x.shape == shape and bool(torch.isfinite(x).all()) for x in fused)
    zero = torch.zeros_like(flow01)
    plain = ((1 - delta) * clean0.double() + delta * clean1.double()).to(dtype)
    weakest = 1e-7 / np.exp(-10)  # what the 1e-7 in a coverage takes where M is -10
    largest = max(float(clean0.double().abs().max()), float(clean1.double().abs().max()))
    bound = ROUNDING[dtype] * 10 + 4 * weakest * largest
    assert float((fuse_direct(clean0, clean1, zero, zero, delta).double() - plain.double()).abs().max()) <= bound
    check_same(fuse_direct(clean0, clean0, zero, zero, delta), clean0, dtype, share=1e-6)
    source = winning_source(flow01, flow10, delta)
    assert source.shape == (1, *shape[2:]) and -1 <= int(source.min()) and int(source.max()) < 2 * shape[2] * shape[3]
    still = winning_source(zero, zero, delta) % (shape[2] * shape[3])
    assert torch.equal(still.flatten(), torch.arange(shape[2] * shape[3]))


@fuzz
@given(grid=grids(), scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3]), tile=st.integers(1, 300))
def test_match_features(grid, scale, tile):
    shape, dtype, generator, layout = grid
    source, target = (noise(shape, dtype, generator, scale=scale) for _ in range(2))
    flow = match_features(source, target, tile=tile)
    assert flow.shape == (shape[0], 2, *shape[2:]) and torch.equal(flow, flow.round())
    assert torch.equal(flow, match_features(laid_out(source, layout), laid_out(target, layout)))  # of any tile
    y, x = np.mgrid[: shape[2], : shape[3]]
    landed = flow.double() + torch.from_numpy(np.stack([x, y])).double()
    assert 0 <= float(landed.min()) and bool((landed < torch.tensor([shape[3], shape[2]]).view(1, 2, 1, 1)).all())
    itself = match_features(source, source)
    there = source.flatten(2).gather(2, ((landed_of(itself))[:, :1]).expand(-1, shape[1], -1))
    cosine = torch.nn.functional.cosine_similarity(there.double(), source.flatten(2).double(), dim=1)
    assert scale == 0 or bool((cosine > 1 - 1e-9).all())  # an image matches itself at a vector of the same direction
    both = combine_features([source, target])
    assert both.shape == (shape[0], 2 * shape[1], *shape[2:]) and bool(torch.isfinite(both).all())
    refined = refine_subpixel(source, target, flow)
    assert bool(torch.isfinite(refined).all()) and float((refined - flow).abs().max()) <= 1 + 1e-4


def landed_of(flow):
    """Index of the target pixel of every source pixel, [N,1,h*w]."""
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((y + flow[:, 1].long()) * width + x + flow[:, 0].long()).flatten(1)[:, None]


@fuzz
@given(grid=grids(), alpha=st.sampled_from([0.0, 1.0, 10.0, 1e6]), scale=SCALES)
def test_brightness_metric(grid, alpha, scale):
    shape, dtype, generator, layout = grid
    a, b = (noise(shape, dtype, generator, scale=scale) for _ in range(2))
    flow = noise((shape[0], 2, *shape[2:]), torch.float32, generator, scale=2.0)
    for ones in (False, True):
        metric = brightness_metric(a, b, flow, alpha=alpha, ones_channel=ones)
        assert metric.shape == a[:, :1].shape and -10 <= float(metric.min()) and float(metric.max()) <= 0
        other = brightness_metric(laid_out(a, layout), laid_out(b, layout), flow, alpha=alpha, ones_channel=ones)
        assert float((metric - other).abs().max()) <= 1e-3
    same = brightness_metric(a, a, torch.zeros_like(flow), alpha=alpha)
    assert float(same.abs().max()) <= 1e-4 * max(1.0, alpha) * max(1.0, scale)
