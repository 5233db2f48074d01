"""Measures of images and flow against plain loops in float64, an independent implementation, or a case by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from interp_lib.bench.metrics import (
    SIDE,
    end_point_error,
    high_frequency_ratio,
    moving_pixels,
    pck,
    psnr,
    resize_flow,
    ssim,
)
from interp_lib.bench.warping import tvl1_flow
from interp_lib.types import Pair


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_by_loops_and_of_known_errors():
    a, b = noise(2, 3, 4, 5).sigmoid(), noise(2, 3, 4, 5, seed=1).sigmoid()
    for k, value in enumerate(psnr(a, b).tolist()):
        squares = [(x - y) ** 2 for x, y in zip(a[k].flatten().tolist(), b[k].flatten().tolist(), strict=True)]
        assert value == pytest.approx(10 * math.log10(1 / (sum(squares) / len(squares))), abs=1e-9)
    images = torch.full((3, 3, 8, 8), 0.5)
    reference = images.clone()
    reference[1] += 0.1  # 20 dB
    reference[2, 0] += 0.5  # a third of the values, a quarter squared
    assert psnr(images, reference).tolist() == pytest.approx([math.inf, 20.0, 10 * math.log10(12)], rel=1e-5)


def test_psnr_counts_the_pixels_of_its_mask_alone():
    a, b = noise(2, 3, 4, 5).sigmoid(), noise(2, 3, 4, 5, seed=1).sigmoid()
    mask = noise(1, 1, 4, 5, seed=2) > 0
    assert torch.allclose(psnr(a, b, mask), psnr(a[..., mask[0, 0]], b[..., mask[0, 0]]))
    assert torch.allclose(psnr(a, b, torch.ones_like(mask)), psnr(a, b))
    with pytest.raises(ValueError, match="empty"):
        psnr(a, b, torch.cat([mask, torch.zeros_like(mask)]))


def test_moving_pixels_by_hand():
    image0, image1, middle = torch.zeros(3, 1, 3, 1, 4)
    image0[0, 1, 0, 0] = 0.2  # a change in one channel at one end
    image1[0, :, 0, 1] = 0.1  # too small a change
    actor = torch.tensor([[[[False, False, True, False]]]])
    pair = Pair("two", image0, image1, actor0=torch.zeros_like(actor), actor1=actor)
    assert moving_pixels(pair, middle).flatten().tolist() == [True, False, True, False]
    assert moving_pixels(Pair("photographs", image0, image1), middle).flatten().tolist() == [True, False, False, False]


def loop_ssim(a, b):
    """One channel, Wang et al. 2004, Eq. 13, by loops over windows."""
    taps = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)]
    window = np.outer(taps, taps) / sum(taps) ** 2
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return sum(values) / len(values)


def test_ssim_by_loops():
    a = noise(2, 3, 13, 14).sigmoid()
    b = (a + 0.2 * noise(2, 3, 13, 14, seed=1)).clamp(0, 1)
    for k, value in enumerate(ssim(a, b).tolist()):
        channels = [loop_ssim(x, y) for x, y in zip(a[k].numpy(), b[k].numpy(), strict=True)]
        assert value == pytest.approx(np.mean(channels), abs=1e-9)


@pytest.mark.parametrize("centre, low", [(0.25, range(2, 6)), (SIDE, range(3, 5))])
def test_high_frequency_ratio_by_loops(centre, low):
    frames, inputs = noise(3, 3, 8, 8), noise(2, 3, 8, 8, seed=1)

    def energy(image):
        total = 0.0
        for channel in image.numpy():
            amplitude = np.abs(np.fft.fftshift(np.fft.fft2(channel)))
            total += sum(amplitude[y, x] for y in range(8) for x in range(8) if y not in low or x not in low)
        return total

    expected = [2 * energy(frame) / (energy(inputs[0]) + energy(inputs[1])) for frame in frames]
    assert high_frequency_ratio(frames, inputs, centre=centre).tolist() == pytest.approx(expected, abs=1e-9)
    assert high_frequency_ratio(frames, torch.full_like(frames, 0.3)).isnan().all()


@given(seed=st.integers(0, 99), radius=st.sampled_from([0.02, 0.1, 0.3]))
def test_end_point_error_and_pck_by_loops(seed, radius):
    flow, truth = noise(2, 2, 4, 6, seed=seed), noise(2, 2, 4, 6, seed=seed + 100)
    mask, error = noise(2, 1, 4, 6, seed=seed) > 0, end_point_error(flow, truth)
    counted = []
    for n, y, x in itertools.product(range(2), range(4), range(6)):
        length = math.hypot(*(flow[n, :, y, x] - truth[n, :, y, x]).tolist())
        assert float(error[n, 0, y, x]) == pytest.approx(length, abs=1e-12)
        counted += [length] if mask[n, 0, y, x] else []
    share = sum(length <= radius * 6 for length in counted) / len(counted)
    assert error.shape == (2, 1, 4, 6) and pck(flow, truth, mask, radius=radius) == pytest.approx(share, abs=1e-6)


def test_resize_flow_by_loops():
    flow = noise(1, 2, 3, 4)
    for size in [(6, 8), (9, 4), (3, 4), (2, 8), (1, 1)]:
        resized = resize_flow(flow, size)
        assert resized.shape == (1, 2, *size)
        for y in range(size[0]):
            for x in range(size[1]):
                row, column = int((y + 0.5) * 3 / size[0]), int((x + 0.5) * 4 / size[1])
                dx, dy = flow[0, :, row, column].tolist()
                expected = [dx * size[1] / 4, dy * size[0] / 3]
                assert resized[0, :, y, x].tolist() == pytest.approx(expected, abs=1e-12)


def test_tvl1_finds_a_shift_to_the_right_and_up():
    noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    picture = F.interpolate(noise, size=(48, 48), mode="bicubic", align_corners=False).clamp(0, 1)
    flow = tvl1_flow(picture, picture.roll((-1, 2), (2, 3)))  # content moves 2 px right and 1 px up
    assert flow.shape == (1, 2, 48, 48)
    inner = flow[0, :, 12:-12, 12:-12].flatten(1).median(1).values
    assert torch.allclose(inner, torch.tensor([2.0, -1.0]), atol=0.2)
