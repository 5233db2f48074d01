"""Each measure against plain loops in float64, an independent implementation, or a case worked out by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from interp_lib.bench.measures.frequency import SIDE, high_frequency_ratio
from interp_lib.bench.measures.structure import ssim
from interp_lib.bench.measures.warping import occluded, warp, warping_error, warping_error_middle, warping_errors


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# structure


def loop_ssim(a, b):
    """One channel, Wang et al. 2004, Eq. 13, by loops over windows."""
    taps = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)]
    window = np.outer(taps, taps) / sum(taps) ** 2
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq, cov = (
                window * (u - m) * (v - n) for u, m, v, n in ((p, mp, p, mp), (q, mq, q, mq), (p, mp, q, mq))
            )
            values.append(
                (2 * mp * mq + 1e-4) * (2 * cov.sum() + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp.sum() + vq.sum() + 9e-4))
            )
    return sum(values) / len(values)


def test_ssim_by_loops():
    a = uniform(2, 3, 13, 14)
    b = (a + 0.2 * noise(2, 3, 13, 14, seed=1)).clamp(0, 1)
    found = ssim(a, b)
    for k in range(2):
        assert float(found[k]) == pytest.approx(
            np.mean([loop_ssim(x, y) for x, y in zip(a[k].numpy(), b[k].numpy(), strict=True)]), abs=1e-9
        )


def test_ssim_is_the_mean_of_the_library_on_each_channel():
    a = uniform(1, 3, 24, 31).float()
    b = (a + 0.1 * noise(1, 3, 24, 31, seed=1)).clamp(0, 1).float()
    options = {"win_size": 11, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    channels = [
        structural_similarity(x, y, data_range=1.0, K1=0.01, K2=0.03, **options)
        for x, y in zip(a[0].double().numpy(), b[0].double().numpy(), strict=True)
    ]
    assert float(ssim(a, b)) == pytest.approx(np.mean(channels), abs=1e-9)


def test_ssim_of_flat_images_by_hand():
    a, b = torch.full((1, 3, 11, 11), 0.2), torch.full((1, 3, 11, 11), 0.6)
    assert float(ssim(a, b)) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), abs=1e-6)
    assert float(ssim(b, b)) == pytest.approx(1, abs=1e-12)


def test_ssim_says_what_does_not_fit():
    with pytest.raises(ValueError, match="one shape"):
        ssim(torch.rand(2, 3, 16, 16), torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="11 pixels a side"):
        ssim(torch.rand(1, 3, 10, 16), torch.rand(1, 3, 10, 16))


# warping


def loop_sample(image, x, y):
    """[C] of image [C][H][W] at (x, y), bilinear, points outside moved to the border."""
    height, width = len(image[0]), len(image[0][0])
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(math.floor(x)), int(math.floor(y))
    right, bottom, u, v = min(left + 1, width - 1), min(top + 1, height - 1), x - left, y - top
    return [
        (1 - v) * ((1 - u) * c[top][left] + u * c[top][right]) + v * ((1 - u) * c[bottom][left] + u * c[bottom][right])
        for c in image
    ]


def loop_warping_error(first, second, flow, backward):
    """METHODS, section 5, one pair, pixel by pixel; and how many pixels each of the two rules takes away."""
    _, height, width = first.shape
    first, second, f, b = first.tolist(), second.tolist(), flow.tolist(), backward.tolist()
    total = count = lost = edges = 0
    for y in range(height):
        for x in range(width):
            dx, dy = f[0][y][x], f[1][y][x]
            bx, by = loop_sample(b, x + dx, y + dy)
            gradient = 0.0
            for c in f:
                gradient += (c[y][x + 1] - c[y][x]) ** 2 if x + 1 < width else 0
                gradient += (c[y + 1][x] - c[y][x]) ** 2 if y + 1 < height else 0
            hidden = (dx + bx) ** 2 + (dy + by) ** 2 > 0.01 * (dx**2 + dy**2 + bx**2 + by**2) + 0.5
            edge = gradient > 0.01 * (dx**2 + dy**2) + 0.002
            lost, edges = lost + hidden, edges + edge
            if not hidden and not edge:
                seen = loop_sample(second, x + dx, y + dy)
                total += sum((s - channel[y][x]) ** 2 for s, channel in zip(seen, first, strict=True))
                count += 3
    return total / (count if count else 3 * height * width), lost, edges, count


def moving_block(seed):
    """Two images and the flows between them: a block moves over still ground, which it hides; motion trembles a bit."""
    first, second = uniform(3, 12, 15, seed=seed), uniform(3, 12, 15, seed=seed + 50)
    flow, backward = 0.008 * noise(2, 12, 15, seed=seed), 0.008 * noise(2, 12, 15, seed=seed + 1)
    motion = torch.tensor([2.3, -1.4], dtype=torch.float64).view(2, 1, 1)
    flow[:, 4:9, 3:9] += motion
    backward[:, 3:8, 5:11] -= motion
    flow[:, :, 13:] += 4.0  # leaves the image
    return first, second, flow, backward


@pytest.mark.parametrize("dtype, within", [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_warping_error_by_loops(dtype, within):
    clip = [moving_block(seed) for seed in (0, 10, 20)]
    expected = [loop_warping_error(*pair) for pair in clip]
    assert all(lost > 5 and edges > 5 and count > 30 for _, lost, edges, count in expected)
    first, second, flow, backward = (torch.stack(x).to(dtype) for x in zip(*clip, strict=True))
    found = warping_errors(first, second, flow, backward)
    assert found.tolist() == pytest.approx([error for error, *_ in expected], abs=within)
    for k, (_, lost, edges, count) in enumerate(expected):
        taken = int(occluded(flow, backward)[k].sum())
        assert max(lost, edges) < taken == 12 * 15 - count // 3


def test_warping_error_is_the_mean_over_neighbours():
    frames = torch.stack([moving_block(seed)[0] for seed in range(4)])
    flows, backward = (torch.stack([moving_block(seed)[k] for seed in range(3)]) for k in (2, 3))
    steps = [loop_warping_error(frames[t], frames[t + 1], flows[t], backward[t])[0] for t in range(3)]
    assert warping_error(frames, flows, backward) == pytest.approx(sum(steps) / 3, abs=1e-9)


def test_warping_error_of_the_middle_is_the_mean_over_the_ends():
    middle, end0, flow0, backward0 = moving_block(0)
    _, end1, flow1, backward1 = moving_block(30)
    ends, flows, backward = torch.stack([end0, end1]), torch.stack([flow0, flow1]), torch.stack([backward0, backward1])
    expected = [loop_warping_error(middle, ends[k], flows[k], backward[k])[0] for k in (0, 1)]
    found = warping_error_middle(middle[None], ends, flows, backward)
    assert found == pytest.approx(sum(expected) / 2, abs=1e-9) and expected[0] != expected[1]


def test_points_outside_are_moved_to_the_border():
    ramp = (0.1 * torch.arange(8.0)).expand(1, 3, 9, 8)
    flow = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 9, 8)
    assert torch.allclose(warp(ramp, flow)[0, 0, 0], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7]))
    assert float(warping_errors(ramp, ramp, flow, -flow)) == pytest.approx(0.01 * 7 / 8, abs=1e-7)
    moved = (ramp + 0.1).clamp(max=0.7)  # what the camera shows once it has moved a pixel
    assert float(warping_errors(moved, ramp, flow, -flow)) == pytest.approx(0, abs=1e-12)


def test_the_rules_of_occlusion_at_their_borders():
    flow = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    flow[:, 0] = 1.0
    backward = -flow
    assert not occluded(flow, backward).any()
    assert not occluded(flow, backward * 0.30).any()  # 0.49 is under 0.01 (1 + 0.09) + 0.5
    assert occluded(flow, backward * 0.28).all()  # 0.5184 is over 0.5108
    flow[:, 0, :, 2:] += 0.109  # 0.01188 is under 0.01 + 0.002
    assert not occluded(flow, -flow).any()
    flow[:, 0, :, 2:] += 0.001  # 0.0121 is over it, in the column before the step alone
    assert occluded(flow, -flow)[0, 0].tolist() == [[False, True, False, False, False]] * 4
    assert occluded(flow.mT, -flow.mT)[0, 0].T.tolist() == [[False, True, False, False, False]] * 4


def test_visible_pixels_alone_count_and_nothing_at_all_is_zero():
    first, second = torch.zeros(1, 3, 6, 6), torch.zeros(1, 3, 6, 6)
    second[:, 1, :3] = 0.5  # one channel of three, in the upper half
    still, visible = torch.zeros(1, 2, 6, 6), torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    assert float(warping_errors(first, second, still, still)) == pytest.approx(0.25 / 6)
    visible[..., :3, :] = True
    assert float(warping_errors(first, second, still, still, visible)) == pytest.approx(0.25 / 3)
    assert float(warping_errors(first, second, still, still, ~visible)) == 0
    assert float(warping_errors(first, second, still, still, visible & ~visible)) == 0
    with pytest.raises(ValueError, match="bool"):
        warping_errors(first, second, still, still, visible.float())


def test_warping_error_says_what_does_not_fit():
    frames, flows = torch.rand(3, 3, 8, 8), torch.zeros(2, 2, 8, 8)
    with pytest.raises(ValueError, match="two or more"):
        warping_error(frames[:1], flows[:0], flows[:0])
    with pytest.raises(ValueError, match=r"\[N,2,h,w\]"):
        warping_error(frames, flows[:1], flows)
    with pytest.raises(ValueError, match=r"\[N,2,h,w\]"):
        warping_error(frames, flows, flows[..., :4])
    with pytest.raises(ValueError, match="two endpoints"):
        warping_error_middle(frames[:1], frames, flows, flows)


# frequency


@pytest.mark.parametrize("centre, low", [(0.25, range(2, 6)), (SIDE, range(3, 5))])
def test_high_frequency_ratio_by_loops(centre, low):
    frames, inputs = uniform(3, 3, 8, 8), uniform(2, 3, 8, 8, seed=1)

    def energy(image):
        total = 0.0
        for channel in image.numpy():
            amplitude = np.abs(np.fft.fftshift(np.fft.fft2(channel)))
            total += sum(amplitude[y, x] for y in range(8) for x in range(8) if y not in low or x not in low)
        return total

    base = (energy(inputs[0]) + energy(inputs[1])) / 2
    expected = [energy(frame) / base for frame in frames]
    assert high_frequency_ratio(frames, inputs, centre=centre).tolist() == pytest.approx(expected, abs=1e-9)


def test_high_frequency_ratio_of_known_images():
    image = torch.rand(1, 3, 32, 32)
    assert high_frequency_ratio(0.5 * image + 0.2, image).tolist() == pytest.approx([0.5], abs=1e-5)
    assert high_frequency_ratio(image, torch.cat([image, torch.full_like(image, 0.3)])).tolist() == pytest.approx(
        [2.0], abs=1e-4
    )
    assert high_frequency_ratio(image, torch.full_like(image, 0.3)).isnan().all()
    with pytest.raises(ValueError, match="one size"):
        high_frequency_ratio(image, image[..., :16])
