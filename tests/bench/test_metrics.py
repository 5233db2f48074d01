"""The measures against plain loops in float64, and what they say about nothing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lib.bench.metrics import end_point_error, moving_pixels, pck, psnr, resize_flow
from interp_lib.types import Pair


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_by_loops():
    a, b = noise(2, 3, 4, 5).sigmoid(), noise(2, 3, 4, 5, seed=1).sigmoid()
    for k, value in enumerate(psnr(a, b).tolist()):
        squares = [(x - y) ** 2 for x, y in zip(a[k].flatten().tolist(), b[k].flatten().tolist(), strict=True)]
        assert value == pytest.approx(10 * math.log10(1 / (sum(squares) / len(squares))), abs=1e-9)


def test_psnr_of_known_errors():
    images = torch.full((3, 3, 8, 8), 0.5)
    reference = images.clone()
    reference[1] += 0.1  # 20 dB
    reference[2, 0] += 0.5  # a third of the values, a quarter squared
    assert psnr(images, reference).tolist() == pytest.approx([math.inf, 20.0, 10 * math.log10(12)], rel=1e-5)
    with pytest.raises(ValueError, match="differ"):
        psnr(images, reference[:1])  # no silent broadcasting


def test_psnr_counts_the_pixels_of_its_mask_alone():
    a, b = noise(2, 3, 4, 5).sigmoid(), noise(2, 3, 4, 5, seed=1).sigmoid()
    mask = noise(1, 1, 4, 5, seed=2) > 0
    assert torch.allclose(psnr(a, b, mask), psnr(a[..., mask[0, 0]], b[..., mask[0, 0]]))
    assert torch.allclose(psnr(a, b, torch.ones_like(mask)), psnr(a, b))
    with pytest.raises(ValueError, match="empty"):
        psnr(a, b, torch.zeros_like(mask))


def test_moving_pixels_by_hand():
    image0, image1, middle = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    image0[0, 1, 0, 0] = 0.2  # a change in one channel at one end
    image1[0, :, 0, 1] = 0.1  # too small a change
    actor = torch.tensor([[[[False, False, True, False]]]])
    pair = Pair("two", image0, image1, actor0=torch.zeros_like(actor), actor1=actor)
    assert moving_pixels(pair, middle).flatten().tolist() == [True, False, True, False]
    assert moving_pixels(Pair("photographs", image0, image1), middle).flatten().tolist() == [True, False, False, False]


def test_end_point_error_by_loops():
    flow, truth = noise(2, 2, 3, 4), noise(2, 2, 3, 4, seed=1)
    error = end_point_error(flow, truth)
    assert error.shape == (2, 1, 3, 4)
    for n in range(2):
        for y in range(3):
            for x in range(4):
                dx, dy = (flow[n, :, y, x] - truth[n, :, y, x]).tolist()
                assert float(error[n, 0, y, x]) == pytest.approx(math.hypot(dx, dy), abs=1e-12)
    with pytest.raises(ValueError, match="one grid"):
        end_point_error(flow, truth[..., :3])


def loop_pck(flow, truth, mask, radius):
    height, width = truth.shape[-2:]
    right = seen = 0
    for n in range(len(flow)):
        for y in range(height):
            for x in range(width):
                if mask[n, 0, y, x]:
                    dx, dy = (flow[n, :, y, x] - truth[n, :, y, x]).tolist()
                    seen, right = seen + 1, right + (math.hypot(dx, dy) <= radius * max(height, width))
    return right / seen


@given(seed=st.integers(0, 99), radius=st.sampled_from([0.02, 0.1, 0.3]))
def test_pck_by_loops(seed, radius):
    flow, truth, mask = (
        noise(2, 2, 4, 6, seed=seed),
        noise(2, 2, 4, 6, seed=seed + 100),
        noise(2, 1, 4, 6, seed=seed) > 0,
    )
    assert pck(flow, truth, mask, radius=radius) == pytest.approx(loop_pck(flow, truth, mask, radius), abs=1e-6)


@pytest.mark.parametrize("height, width", [(10, 40), (40, 10)])
def test_pck_measures_on_the_longer_side(height, width):
    truth = torch.zeros(1, 2, height, width)
    flow, mask = truth.clone(), torch.ones(1, 1, height, width, dtype=torch.bool)
    flow[:, 0] = 4.0  # a tenth of 40: on the border, which counts as right
    assert pck(flow, truth, mask) == 1.0
    flow[:, 1, : height // 2] = 0.5
    assert pck(flow, truth, mask) == 0.5
    assert pck(flow, truth, mask, radius=0.2) == 1.0


def test_pck_looks_at_the_mask_alone():
    truth = torch.zeros(1, 2, 10, 10)
    flow, mask = torch.full_like(truth, torch.nan), torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    mask[..., 0, :4] = True
    flow[..., 0, :3] = 0.0
    assert pck(flow, truth, mask) == 0.75  # the unknown flow inside is wrong, the one outside is not asked
    with pytest.raises(ValueError, match="mask is empty"):
        pck(flow, truth, torch.zeros_like(mask))


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


def test_resized_flow_moves_the_same_share_of_the_image():
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 16)
    assert torch.equal(resize_flow(flow, (32, 32)), torch.tensor([4.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, 32, 32))
