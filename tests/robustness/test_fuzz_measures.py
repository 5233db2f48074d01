"""Spectra, components, maps and measures: shapes, finiteness, and the identities that the formulas promise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lib import consistency_mask, high_frequency_energy, pca_project, rotate_map, spectrum
from interp_lib.bench import end_point_error, psnr, resize_flow
from interp_lib.bench.measures.warping import warp, warping_errors
from interp_lib.bench.metrics import ssim
from interp_lib.show import flow_to_colour
from tests.robustness.tensors import ROUNDING, SCALES, SIDES, check_same, fuzz, grids, laid_out, noise


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
@given(grid=grids(dtypes=(torch.float32, torch.float64)))
def test_psnr_and_ssim(grid):
    (n, _, h, w), dtype, generator, layout = grid
    a, b = (torch.rand(n, 3, h, w, generator=generator, dtype=dtype) for _ in range(2))
    assert psnr(a, b).shape == (n,) and bool(torch.isfinite(psnr(a, b)).all()) and bool(torch.isinf(psnr(a, a)).all())
    assert torch.allclose(psnr(a, b), psnr(b, a)) and torch.allclose(psnr(a, b), psnr(laid_out(a, layout), b))
    assert torch.allclose(psnr(a, b), psnr(a, b, torch.ones(1, 1, h, w, dtype=torch.bool)))
    if min(h, w) < 11:
        with pytest.raises(ValueError, match="11 pixels"):
            ssim(a, b)
        return
    value = ssim(a, b)
    assert value.shape == (n,) and float(value.abs().max()) <= 1 and torch.allclose(value, ssim(b, a))
    assert torch.allclose(ssim(a, a), torch.ones(n, dtype=torch.float64))
    assert torch.allclose(value, ssim(laid_out(a, layout), b))


@fuzz
@given(grid=grids(dtypes=(torch.float32, torch.float64)), reach=st.sampled_from([0.0, 0.5, 4.0, 1e6]), to=SIDES)
def test_flows(grid, reach, to):
    (n, _, h, w), dtype, generator, layout = grid
    flow, back = (noise((n, 2, h, w), dtype, generator, scale=reach) for _ in range(2))
    image = torch.rand(n, 3, h, w, generator=generator, dtype=dtype)
    mask = consistency_mask(flow, back)
    assert mask.shape == (n, 1, h, w) and mask.dtype == torch.bool
    assert torch.equal(mask, consistency_mask(laid_out(flow, layout), laid_out(back, layout)))
    assert bool(consistency_mask(flow * 0, back * 0).all())
    assert float(end_point_error(flow, flow).max()) == 0 and torch.equal(resize_flow(flow, (h, w)), flow)
    assert resize_flow(flow, (to, to)).shape == (n, 2, to, to)
    colours = flow_to_colour(flow)
    assert colours.shape == (n, 3, h, w) and -1e-6 <= float(colours.min()) and float(colours.max()) <= 1 + 1e-6
    assert torch.allclose(warp(image, flow * 0), image, atol=1e-5)
    errors = warping_errors(image, image, flow * 0, back * 0)
    assert errors.shape == (n,) and float(errors.max()) <= 1e-9
    assert bool(torch.isfinite(warping_errors(image, image.flip(0), flow, back)).all())
