"""Matching, warping and the brightness metric against plain loops in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_lib.dreammover.flow import (
    backwarp,
    brightness_metric,
    combine_features,
    consistency_mask,
    match_features,
    refine_subpixel,
)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loop_match(source, target):
    """Every pair of pixels, cosine in Python floats; a later target wins only by more than rounding."""
    channels, height, width = source.shape
    flow = torch.zeros(2, height, width)
    source, target = source.double().tolist(), target.double().tolist()

    def vector(f, y, x):
        v = [f[c][y][x] for c in range(channels)]
        length = math.sqrt(math.fsum(a * a for a in v))
        return [a / length for a in v]

    for y in range(height):
        for x in range(width):
            a, best, at = vector(source, y, x), -2.0, None
            for j in range(height):
                for i in range(width):
                    cosine = math.fsum(p * q for p, q in zip(a, vector(target, j, i), strict=True))
                    if cosine > best + 1e-13:
                        best, at = cosine, (i - x, j - y)
            flow[0, y, x], flow[1, y, x] = at
    return flow


def loop_backwarp(image, flow):
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            px, py = x + flow[0, y, x].item(), y + flow[1, y, x].item()
            for j in (math.floor(py), math.floor(py) + 1):
                for i in (math.floor(px), math.floor(px) + 1):
                    if 0 <= i < width and 0 <= j < height:
                        out[:, y, x] += (1 - abs(px - i)) * (1 - abs(py - j)) * image[:, j, i]
    return out


def test_match_is_the_exact_argmax():
    source, target = noise(2, 5, 4, 6), noise(2, 5, 4, 6, seed=1)
    flow = match_features(source, target)
    assert flow.shape == (2, 2, 4, 6) and flow.dtype == torch.float32
    for n in range(2):
        assert torch.equal(flow[n], loop_match(source[n], target[n]))


def test_match_resizes_bilinearly_before_matching():
    source, target = noise(1, 6, 3, 4), noise(1, 6, 3, 4, seed=1)
    resized = [F.interpolate(f.double(), (6, 5), mode="bilinear", align_corners=False)[0] for f in (source, target)]
    assert torch.equal(match_features(source, target, size=(6, 5))[0], loop_match(*resized))
    assert match_features(source, target, size=7).shape == (1, 2, 7, 7)


@pytest.mark.parametrize("scale", [1.0, 1 / 7])
def test_ties_go_to_the_lowest_index(scale):
    """Target columns repeat, some scaled: the same direction, so the same cosine, whatever rounding says."""
    source = noise(1, 37, 6, 9, dtype=torch.float64)
    target = source.flip(-1).clone()
    target[..., 3:, :] = scale * target[..., :3, :]
    flow = match_features(source, target)
    assert torch.equal(flow[0], loop_match(source[0], target[0]))
    assert (flow[0, 1] + torch.arange(6.0)[:, None] < 3).all(), "the copies in the lower half must never win"


def test_float64_decides_what_float32_cannot():
    """Every target vector has a twin that is nearer to the source by a cosine of 1e-9; the precision is put back."""
    source = F.normalize(noise(1, 1280, 6, 6, dtype=torch.float64), dim=1)
    other = F.normalize(noise(1, 1280, 6, 6, seed=1, dtype=torch.float64), dim=1)
    near, nearer = (F.normalize(source + 0.3 * other * (1 + k), dim=1) for k in (1e-8, 0))
    target = torch.cat([near, nearer], dim=2)  # the twin has the higher index, so that a tie would miss it
    torch.set_float32_matmul_precision("medium")
    try:
        flow = match_features(source.repeat(1, 1, 2, 1), target)[0, :, :6]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert float((source * (nearer - near)).sum(1).min()) > 1e-10
    assert torch.equal(flow[0], torch.zeros(6, 6)) and torch.equal(flow[1], torch.full((6, 6), 6.0))


def test_combined_features_have_the_mean_cosine():
    first, second = noise(2, 5, 4, 4, dtype=torch.float64), 9 * noise(2, 8, 4, 4, seed=1, dtype=torch.float64)
    joined = combine_features([first, second])
    cosine = (joined[0] * joined[1]).sum(0)
    expected = (F.cosine_similarity(*first, dim=0) + F.cosine_similarity(*second, dim=0)) / 2
    torch.testing.assert_close(cosine, expected)
    assert combine_features([first, noise(2, 3, 2, 2)], size=(6, 6)).shape == (2, 8, 6, 6)
    with pytest.raises(ValueError, match="size"):
        combine_features([first, noise(2, 3, 2, 2)])


def test_refinement_against_a_loop_and_its_gradient():
    source, target = noise(1, 3, 4, 5, dtype=torch.float64), noise(1, 3, 4, 5, seed=1, dtype=torch.float64)
    flow = match_features(source, target)
    refined = refine_subpixel(source, target, flow, temperature=0.3)
    for y in range(4):
        for x in range(5):
            i, j = x + int(flow[0, 0, y, x]), y + int(flow[0, 1, y, x])
            window = [(u, v) for v in (j - 1, j, j + 1) for u in (i - 1, i, i + 1) if 0 <= u < 5 and 0 <= v < 4]
            cosine = [F.cosine_similarity(source[0, :, y, x], target[0, :, v, u], dim=0).item() for u, v in window]
            weight = [math.exp(c / 0.3) for c in cosine]
            mean = [sum(w * p[k] for w, p in zip(weight, window, strict=True)) / sum(weight) for k in (0, 1)]
            assert refined[0, :, y, x].tolist() == pytest.approx([mean[0] - x, mean[1] - y], abs=1e-9)
    source.requires_grad_(), target.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: refine_subpixel(s, t, flow, temperature=0.3), (source, target))


def test_consistency_mask():
    flow01 = torch.zeros(1, 2, 6, 8)
    flow01[:, 0] = 2.0  # everything moves right, and back
    there_and_back = consistency_mask(flow01, -flow01, tolerance=0.5)
    assert there_and_back.dtype == torch.bool and there_and_back.shape == (1, 1, 6, 8)
    assert there_and_back[..., :6].all() and not there_and_back[..., 6:].any(), "the last two columns leave the image"
    flow10 = -flow01
    flow10[0, 1, 3, 4] = 1.0  # seen from pixel (2, 3)
    assert consistency_mask(flow01, flow10, tolerance=0.5)[0, 0, 3].int().tolist() == [1, 1, 0, 1, 1, 1, 0, 0]
    assert consistency_mask(flow01, flow10, tolerance=1.5)[..., :6].all()


@given(seed=st.integers(0, 2**16), reach=st.floats(0, 6))
@settings(max_examples=25, deadline=None)
def test_backwarp_against_a_loop(seed, reach):
    image, flow = noise(2, 3, 4, 7, seed=seed, dtype=torch.float64), noise(2, 2, 4, 7, seed=seed + 1).double()
    warped = backwarp(image, reach * flow)
    for n in range(2):
        torch.testing.assert_close(warped[n], loop_backwarp(image[n], reach * flow[n]))


def test_backwarp_whole_pixels_edges_and_gradient():
    image = noise(1, 2, 5, 6, dtype=torch.float64)
    right = torch.tensor([2.0, 0.0]).double().view(1, 2, 1, 1).expand(1, 2, 5, 6)
    torch.testing.assert_close(backwarp(image, right), F.pad(image[..., 2:], (0, 2)))
    flow = 1.5 * noise(1, 2, 5, 6, seed=4, dtype=torch.float64)
    assert torch.autograd.gradcheck(backwarp, (image.requires_grad_(), flow.requires_grad_()))
    assert backwarp(noise(1, 1, 3, 1), torch.full((1, 2, 3, 1), 4.0)).abs().max() == 0, "one pixel wide, all outside"


@pytest.mark.parametrize("ones", [False, True])
def test_brightness_metric_against_a_loop(ones):
    a, b = (0.2 * noise(1, 4, 5, 6, seed=s, dtype=torch.float64) for s in (0, 1))
    flow = 3 * noise(1, 2, 5, 6, seed=2, dtype=torch.float64)
    warped = loop_backwarp(b[0], flow[0])
    loss = (a[0] - warped).abs().sum(0)
    if ones:
        loss += 1 - loop_backwarp(torch.ones(1, 5, 6).double(), flow[0])[0]
    loss /= 5 if ones else 4
    metric = brightness_metric(a, b, flow, ones_channel=ones)
    torch.testing.assert_close(metric[0, 0], (-10 * loss).clamp(-10, 10))
    assert metric.shape == (1, 1, 5, 6)


def test_brightness_metric_is_clipped_and_zero_on_agreement():
    a, still = noise(1, 4, 5, 6), torch.zeros(1, 2, 5, 6)
    assert brightness_metric(a, a, still).abs().max() < 1e-4
    assert torch.equal(brightness_metric(a, a + 100, still), torch.full((1, 1, 5, 6), -10.0))
    torch.testing.assert_close(brightness_metric(a, a + 0.1, still, alpha=3.0), torch.full((1, 1, 5, 6), -0.3))
    small = [0.1 * noise(1, 2, 4, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1, 2)]
    assert torch.autograd.gradcheck(brightness_metric, small)
