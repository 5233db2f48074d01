"""The maths on tensors of every small size, dtype and layout: shapes, finiteness, and what the formulas promise."""

from typing import NamedTuple

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
    softmax_splat,
    spectrum,
    winning_source,
)
from interp_lib.bench import end_point_error, resize_flow
from interp_lib.show import flow_to_colour

fuzz = settings(max_examples=60, derandomize=True, database=None, deadline=10_000)
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
SCALES = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3])
REACHES = st.sampled_from([0.0, 0.3, 3.0, 1e6, 1e30])
SIDES = st.integers(1, 17)


class Grid(NamedTuple):
    """What the tensors of one example have in common. layout: the order of their second copies in memory."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    generator: torch.Generator
    layout: str

    def noise(self, scale=1.0, channels=None, dtype=None):
        n, c, h, w = self.shape
        x = torch.randn(n, channels or c, h, w, generator=self.generator, dtype=torch.float64)
        return (scale * x).to(dtype or self.dtype)

    def flow(self, reach):
        return self.noise(reach, 2, torch.promote_types(self.dtype, torch.float32))  # half precision has no 1e30

    def laid_out(self, *tensors):
        """The same values in memory of another order."""
        if self.layout == "strided":
            return [torch.stack([x, x + 1], -1).flatten(-2)[..., ::2] for x in tensors]
        if self.layout == "channels":
            return [x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for x in tensors]
        return [x.mT.contiguous().mT if self.layout == "flipped" else x for x in tensors]

    def check_same(self, a, b, *, scale=1.0, share=0.0):
        """Equal to rounding at that scale; share: what the formula's own constants may take of the largest value."""
        assert a.shape == b.shape and a.dtype == b.dtype
        bound = ROUNDING[self.dtype] * max(scale, 1e-20) + share * largest(b)
        assert float((a.double() - b.double()).abs().max()) <= bound


@st.composite
def grids(draw, *, dtypes=tuple(ROUNDING), batch=2):
    shape = (draw(st.integers(1, batch)), draw(st.integers(1, 5)), draw(SIDES), draw(SIDES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    layout = draw(st.sampled_from(["plain", "strided", "channels", "flipped"]))
    return Grid(shape, draw(st.sampled_from(dtypes)), generator, layout)


def finite(*tensors):
    return all(bool(torch.isfinite(x).all()) for x in tensors)


def largest(x):
    return float(x.double().abs().max())


@fuzz
@given(grid=grids(), reach=REACHES, scale=SCALES)
def test_backwarp(grid, reach, scale):
    image, flow = grid.noise(scale), grid.flow(reach)
    warped = backwarp(image, flow)
    assert finite(warped) and largest(warped) <= largest(image) * (1 + ROUNDING[grid.dtype])
    grid.check_same(warped, backwarp(*grid.laid_out(image, flow)), scale=scale)
    grid.check_same(backwarp(image, torch.zeros_like(flow)), image, scale=scale)


@fuzz
@given(grid=grids(), reach=REACHES, metric=st.sampled_from([None, 0.0, 3.0]))
def test_softmax_splat(grid, reach, metric):
    values, flow = grid.noise(), grid.flow(reach)
    importance = None if metric is None else grid.noise(metric, 1, flow.dtype)
    splatted, weight = softmax_splat(values, flow, importance)
    assert finite(splatted, weight) and float(weight.min()) >= 0 and weight.shape == values[:, :1].shape
    assert float(weight.double().sum()) <= weight.numel() * (1 + ROUNDING[grid.dtype])  # nothing lands twice
    assert largest(splatted) <= largest(values) + ROUNDING[grid.dtype]
    for ours, again in zip((splatted, weight), softmax_splat(*grid.laid_out(values, flow), importance), strict=True):
        grid.check_same(ours, again)
    still, ones = softmax_splat(values, torch.zeros_like(flow))
    grid.check_same(still, values, share=2e-7)
    grid.check_same(ones, torch.ones_like(ones))


@fuzz
@given(grid=grids(batch=1), reach=st.sampled_from([0.0, 0.3, 3.0, 1e6]), delta=st.sampled_from([0, 0.25, 0.5, 1.0]))
def test_fusion(grid, reach, delta):
    clean0, clean1, noise0, noise1 = (grid.noise() for _ in range(4))
    flow01, flow10 = grid.flow(reach), grid.flow(reach)
    for preset in ("paper", "released"):
        mixed = fuse_direct(clean0, clean1, flow01, flow10, delta, preset=preset)
        other = fuse_direct(*grid.laid_out(clean0, clean1, flow01, flow10), delta, preset=preset)
        assert finite(mixed) and mixed.shape == clean0.shape and mixed.dtype == grid.dtype
        grid.check_same(mixed, other, scale=10)
        fused = fuse_two_level(clean0, clean1, noise0, noise1, flow01, flow10, delta, 0.5, preset=preset)
        assert finite(*fused) and all(x.shape == grid.shape for x in fused)
    zero, pixels = torch.zeros_like(flow01), grid.shape[2] * grid.shape[3]
    grid.check_same(fuse_direct(clean0, clean0, zero, zero, delta), clean0, share=1e-6)
    source = winning_source(flow01, flow10, delta)
    assert source.shape == (1, *grid.shape[2:]) and -1 <= int(source.min()) and int(source.max()) < 2 * pixels
    assert torch.equal((winning_source(zero, zero, delta) % pixels).flatten(), torch.arange(pixels))


@fuzz
@given(grid=grids(), scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3]), tile=st.integers(1, 300))
def test_match_features(grid, scale, tile):
    (n, c, h, w), (source, target) = grid.shape, (grid.noise(scale) for _ in range(2))
    flow = match_features(source, target, tile=tile)
    assert flow.shape == (n, 2, h, w) and torch.equal(flow, flow.round())
    assert torch.equal(flow, match_features(*grid.laid_out(source, target)))  # of any tile
    landed = flow.double() + torch.from_numpy(np.mgrid[:h, :w][::-1].copy())
    assert 0 <= float(landed.min()) and bool((landed < torch.tensor([w, h]).view(1, 2, 1, 1)).all())
    both = combine_features([source, target])
    assert both.shape == (n, 2 * c, h, w) and finite(both)
    refined = refine_subpixel(source, target, flow)
    assert finite(refined) and float((refined - flow).abs().max()) <= 1 + 1e-4


@fuzz
@given(grid=grids(), alpha=st.sampled_from([0.0, 1.0, 10.0, 1e6]), scale=SCALES)
def test_brightness_metric(grid, alpha, scale):
    a, b, flow = grid.noise(scale), grid.noise(scale), grid.noise(2.0, 2, torch.float32)
    for ones in (False, True):
        metric = brightness_metric(a, b, flow, alpha=alpha, ones_channel=ones)
        assert metric.shape == a[:, :1].shape and -10 <= float(metric.min()) and float(metric.max()) <= 0
        other = brightness_metric(*grid.laid_out(a, b), flow, alpha=alpha, ones_channel=ones)
        assert float((metric - other).abs().max()) <= 1e-3
    same = brightness_metric(a, a, torch.zeros_like(flow), alpha=alpha)
    assert largest(same) <= 1e-4 * max(1.0, alpha) * max(1.0, scale)


@fuzz
@given(grid=grids(), centre=st.floats(0, 1), scale=SCALES)
def test_spectrum(grid, centre, scale):
    x = grid.noise(scale)
    amplitude, energy = spectrum(x), high_frequency_energy(x, centre=centre)
    assert finite(amplitude, energy) and float(amplitude.min()) >= 0 and energy.shape == (len(x),)
    wide = grid._replace(dtype=torch.promote_types(grid.dtype, torch.float32))
    wide.check_same(amplitude, spectrum(*grid.laid_out(x)), scale=max(float(amplitude.double().sum()), 1e-20))
    whole = high_frequency_energy(x, centre=0.0)
    assert bool((energy <= whole * (1 + 1e-4) + 1e-30).all()) and float(high_frequency_energy(x, centre=1.0).max()) == 0
    parseval = amplitude.double().square().sum(), x.double().square().sum() * x.shape[2] * x.shape[3]
    assert float(parseval[0]) == pytest.approx(float(parseval[1]), rel=1e-3, abs=1e-30)


@fuzz
@given(grid=grids(), components=st.integers(1, 3))
def test_pca(grid, components):
    x, (n, c, h, w) = grid.noise(), grid.shape
    if components > min(c, n * h * w):
        with pytest.raises(ValueError, match="components="):
            pca_project(x, components=components)
        return
    projected = pca_project(x, components=components)
    assert projected.shape == (n, components, h, w) and finite(projected)
    grid.check_same(projected, pca_project(*grid.laid_out(x), components=components), scale=10)
    spread = projected.double().square().sum((0, 2, 3))
    assert bool((spread[:-1] >= spread[1:] * (1 - ROUNDING[grid.dtype])).all())
    assert float(spread.sum()) <= float((x.double() - x.double().mean((0, 2, 3), keepdim=True)).square().sum()) * 1.1
    assert largest(pca_project(torch.ones_like(x), components=components)) <= 1e-6


@fuzz
@given(grid=grids(dtypes=(torch.float32, torch.float64)), reach=st.sampled_from([0.0, 0.5, 4.0, 1e6]), to=SIDES)
def test_flows(grid, reach, to):
    flow, back = grid.flow(reach), grid.flow(reach)
    (n, _, h, w), mask = flow.shape, consistency_mask(flow, back)
    assert mask.shape == (n, 1, h, w) and mask.dtype == torch.bool
    assert torch.equal(mask, consistency_mask(*grid.laid_out(flow, back)))
    assert bool(consistency_mask(flow * 0, back * 0).all())
    assert float(end_point_error(flow, flow).max()) == 0 and torch.equal(resize_flow(flow, (h, w)), flow)
    assert resize_flow(flow, (to, to)).shape == (n, 2, to, to)
    colours = flow_to_colour(flow)
    assert colours.shape == (n, 3, h, w) and -1e-6 <= float(colours.min()) and float(colours.max()) <= 1 + 1e-6
