"""The warping error against plain loops in float64 and cases worked out by hand."""

import math

import pytest
import torch

from interp_lib.bench.warping import occluded, warp, warping_errors


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
    first, second = noise(3, 12, 15, seed=seed).sigmoid(), noise(3, 12, 15, seed=seed + 50).sigmoid()
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


def test_points_outside_are_moved_to_the_border():
    ramp = (0.1 * torch.arange(8.0)).expand(1, 3, 9, 8)
    flow = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 9, 8)
    assert torch.allclose(warp(ramp, flow)[0, 0, 0], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7]))
    assert float(warping_errors(ramp, ramp, flow, -flow)) == pytest.approx(0.01 * 7 / 8, abs=1e-7)


def test_the_rules_of_occlusion_at_their_borders():
    flow = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    flow[:, 0] = 1.0
    assert not occluded(flow, -flow * 0.30).any()  # 0.49 is under 0.01 (1 + 0.09) + 0.5
    assert occluded(flow, -flow * 0.28).all()  # 0.5184 is over 0.5108
    flow[:, 0, :, 2:] += 0.109  # 0.01188 is under 0.01 + 0.002
    assert not occluded(flow, -flow).any()
    flow[:, 0, :, 2:] += 0.001  # 0.0121 is over it, in the column before the step alone
    assert occluded(flow, -flow)[0, 0].tolist() == [[False, True, False, False, False]] * 4
    assert occluded(flow.mT, -flow.mT)[0, 0].T.tolist() == [[False, True, False, False, False]] * 4


def test_no_visible_pixel_is_zero():
    first, second, flow = torch.zeros(1, 3, 6, 6), torch.ones(1, 3, 6, 6), torch.full((1, 2, 6, 6), 3.0)
    assert float(warping_errors(first, second, flow, flow)) == 0  # all occluded: there and back is not zero
