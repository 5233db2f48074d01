"""The maths on tensors of every small size, dtype and layout: shapes, finiteness, and what the formulas promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_lib import (
    backwarp,
    brightness_metric,
    combine_features,
    consistency_mask,
    fuse_direct,
    fuse_two_level,
    high_frequency_energy,
    match_features,
    pca_project,
    refine_subpixel,
    rotate_map,
    softmax_splat,
    spectrum,
    winning_source,
)
from interp_lib.bench import end_point_error, resize_flow
from interp_lib.show import flow_to_colour

EXAMPLES = 60
fuzz = settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=10_000)
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
SCALES = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3])
SIDES = st.integers(1, 17)


@st.composite
def grids(draw, *, dtypes=(torch.float32, torch.float64, torch.bfloat16, torch.float16), batch=2):
    """(shape [N,C,h,w], dtype, generator, layout) of the tensors of one example."""
    shape = (draw(st.integers(1, batch)), draw(st.integers(1, 5)), draw(SIDES), draw(SIDES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return (
        shape,
        draw(st.sampled_from(dtypes)),
        generator,
        draw(st.sampled_from(["plain", "strided", "channels", "flipped"])),
    )


def noise(shape, dtype, generator, *, scale=1.0):
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def laid_out(x, layout):
    """The same values in memory of another order."""
    if layout == "strided":
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "channels":
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if layout == "flipped":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    return x


def check_same(a, b, dtype, *, scale=1.0, share=0.0):
    """Equal to rounding at that scale; share: what the formula's own constants may take away of the largest value."""
    assert a.shape == b.shape and a.dtype == b.dtype
    bound = ROUNDING[dtype] * max(scale, 1e-20) + share * float(b.double().abs().max())
    assert float((a.double() - b.double()).abs().max()) <= bound


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


@fuzz
@given(grid=grids(), centre=st.floats(0, 1), scale=SCALES)
def test_spectrum(grid, centre, scale):
    shape, dtype, generator, layout = grid
    x = noise(shape, dtype, generator, scale=scale)
    amplitude, energy = spectrum(x), high_frequency_energy(x, centre=centre)
    assert amplitude.shape == x.shape and float(amplitude.min()) >= 0 and energy.shape == (shape[0],)
    assert bool(torch.isfinite(amplitude).all()) and bool(torch.isfinite(energy).all())
    narrow = torch.float64 if dtype == torch.float64 else torch.float32
    size = max(float(amplitude.double().sum()), 1e-20)
    check_same(amplitude, spectrum(laid_out(x, layout)), narrow, scale=size)
    moved = spectrum(torch.roll(x, (1, 2), dims=(-2, -1)))
    check_same(amplitude, moved, narrow, scale=size)
    whole = high_frequency_energy(x, centre=0.0)
    assert bool((energy <= whole * (1 + 1e-4) + 1e-30).all()) and float(high_frequency_energy(x, centre=1.0).max()) == 0
    parseval = amplitude.double().square().sum(), x.double().square().sum() * shape[2] * shape[3]
    assert float(parseval[0]) == pytest.approx(float(parseval[1]), rel=1e-3, abs=1e-30)


@fuzz
@given(grid=grids(), components=st.integers(1, 3))
def test_pca(grid, components):
    shape, dtype, generator, layout = grid
    x = noise(shape, dtype, generator)
    if components > min(shape[1], shape[0] * shape[2] * shape[3]):
        with pytest.raises(ValueError, match="components="):
            pca_project(x, components=components)
        return
    projected = pca_project(x, components=components)
    assert projected.shape == (shape[0], components, *shape[2:]) and bool(torch.isfinite(projected).all())
    check_same(projected, pca_project(laid_out(x, layout), components=components), dtype, scale=10)
    spread = projected.double().square().sum((0, 2, 3))
    assert bool((spread[:-1] >= spread[1:] * (1 - ROUNDING[dtype])).all())
    assert float(spread.sum()) <= float((x.double() - x.double().mean((0, 2, 3), keepdim=True)).square().sum()) * 1.1
    flat = pca_project(torch.ones_like(x), components=components)
    assert float(flat.double().abs().max()) <= 1e-6


@fuzz
@given(lead=st.lists(st.integers(0, 3), max_size=2), n=st.integers(0, 17), seed=st.integers(0, 99))
def test_rotate_map(lead, n, seed):
    a = torch.rand(*lead, n, n, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(rotate_map(rotate_map(a)), a) and rotate_map(a).shape == a.shape
    assert torch.equal(rotate_map(a), torch.from_numpy(np.rot90(a.numpy(), 2, (-2, -1)).copy()))
    assert torch.equal(rotate_map(a.mT), rotate_map(a).mT)  # of any layout
    rows = a / a.sum(-1, keepdim=True)
    assert torch.allclose(rotate_map(rows).sum(-1), torch.ones(*lead, n))


@fuzz
@given(grid=grids(dtypes=(torch.float32, torch.float64)), reach=st.sampled_from([0.0, 0.5, 4.0, 1e6]), to=SIDES)
def test_flows(grid, reach, to):
    (n, _, h, w), dtype, generator, layout = grid
    flow, back = (noise((n, 2, h, w), dtype, generator, scale=reach) for _ in range(2))
    mask = consistency_mask(flow, back)
    assert mask.shape == (n, 1, h, w) and mask.dtype == torch.bool
    assert torch.equal(mask, consistency_mask(laid_out(flow, layout), laid_out(back, layout)))
    assert bool(consistency_mask(flow * 0, back * 0).all())
    assert float(end_point_error(flow, flow).max()) == 0 and torch.equal(resize_flow(flow, (h, w)), flow)
    assert resize_flow(flow, (to, to)).shape == (n, 2, to, to)
    colours = flow_to_colour(flow)
    assert colours.shape == (n, 3, h, w) and -1e-6 <= float(colours.min()) and float(colours.max()) <= 1 + 1e-6
