"""Agreement of feature colours against plain loops, and what it says of maps whose answer is known."""

import math

import pytest
import torch

from interp_lib.bench.agreement import ANGLES, part_agreement, pca_colours, place_agreement
from interp_lib.dreammover.flow import pixel_grid

SIDE = 24


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scene(dx=6.0, dy=-4.0):
    """A constant flow, and the pixels of a square that stay inside."""
    flow = torch.tensor([dx, dy], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE).contiguous()
    mask = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    mask[..., 8:18, 6:16] = True
    return flow, mask


def lookup(image, x, y):
    """Bilinear value of [C,H,W] at a point inside."""
    left, top = min(int(x), SIDE - 2), min(int(y), SIDE - 2)
    a, b = x - left, y - top
    rows = [(1 - a) * image[:, top + k, left] + a * image[:, top + k, left + 1] for k in (0, 1)]
    return (1 - b) * rows[0] + b * rows[1]


def test_place_agreement_by_loops():
    flow, mask = scene(5.3, -3.6)
    colours, won, asked = noise(2, 3, SIDE, SIDE), 0.0, 0
    colours[1] = torch.roll(colours[0], (-4, 5), (1, 2)) + noise(3, SIDE, SIDE, seed=1)
    for y, x in mask[0, 0].nonzero().tolist():
        dx, dy = flow[0, :, y, x].tolist()
        near = (colours[0, :, y, x] - lookup(colours[1], x + dx, y + dy)).norm()
        for angle in ANGLES:
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            u, v = x + c * dx - s * dy, y + s * dx + c * dy
            if 0 <= u <= SIDE - 1 and 0 <= v <= SIDE - 1:
                won += float(near < (colours[0, :, y, x] - lookup(colours[1], u, v)).norm())
                asked += 1
    assert 0.5 < won / asked < 1
    assert place_agreement(colours, flow, mask) == pytest.approx(won / asked, abs=1e-9)


def test_part_agreement_by_loops():
    flow, mask = scene()
    colours, won, asked = noise(2, 3, SIDE, SIDE), 0.0, 0
    colours[1] = torch.roll(colours[0], (-4, 6), (1, 2)) + 0.5 * noise(3, SIDE, SIDE, seed=1)
    pixels = mask[0, 0].nonzero().tolist()
    for y, x in pixels:
        near = (colours[0, :, y, x] - colours[1, :, y - 4, x + 6]).norm()
        for v, u in pixels:
            if math.hypot(u - x, v - y) >= 0.1 * SIDE:
                won += float(near < (colours[0, :, y, x] - colours[1, :, v - 4, u + 6]).norm())
                asked += 1
    assert 0.5 < won / asked < 1
    assert part_agreement(colours, flow, mask) == pytest.approx(won / asked, abs=1e-9)


def test_known_answers():
    flow, mask = scene()
    shared = noise(1, 3, SIDE, SIDE)
    moved = torch.cat([shared, torch.roll(shared, (-4, 6), (2, 3))])
    coordinates = pixel_grid(SIDE, SIDE, like=flow)[None].expand(2, -1, -1, -1)
    for agreement in (place_agreement, part_agreement):
        assert agreement(moved, flow, mask) == 1
        assert agreement(torch.ones(2, 3, SIDE, SIDE), flow, mask) == 0.5
    assert place_agreement(coordinates, flow, mask) == 0.5  # telling where a pixel is earns nothing
    assert part_agreement(coordinates, flow, mask) != 0.5
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 3, 8, 8)  # a coarser map is resized to the grid of the flow
    assert place_agreement(torch.cat([ramp, ramp - 2]), *scene(6.0, 0.0)) > 0.99  # 6 pixels are 2 cells


def test_colours_are_uncorrelated_and_of_unit_spread():
    rows = pca_colours(noise(2, 6, 5, 4) * torch.arange(1.0, 7).view(1, 6, 1, 1)).permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(rows @ rows.T / rows.shape[1], torch.eye(3, dtype=rows.dtype), atol=1e-9)
    assert torch.equal(pca_colours(torch.zeros(2, 4, 3, 3)), torch.zeros(2, 3, 3, 3))
