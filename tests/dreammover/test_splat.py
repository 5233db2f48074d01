"""Softmax splatting against a plain loop in float64, and the laws of a forward warp."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_lib.dreammover.splat import softmax_splat, splat_with_coverage

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loop_splat(values, flow, metric=None):
    """Eq. 4 pixel by pixel: four corners around each landing point, everything in Python floats."""
    channels, height, width = values.shape
    top = [[[0.0] * width for _ in range(height)] for _ in range(channels)]
    bottom, plain = ([[0.0] * width for _ in range(height)] for _ in range(2))
    for y in range(height):
        for x in range(width):
            px, py = x + flow[0, y, x].item(), y + flow[1, y, x].item()
            importance = 1.0 if metric is None else math.exp(metric[0, y, x].item())
            for j in (math.floor(py), math.floor(py) + 1):
                for i in (math.floor(px), math.floor(px) + 1):
                    if not (0 <= i < width and 0 <= j < height):
                        continue
                    w = (1 - abs(px - i)) * (1 - abs(py - j))
                    plain[j][i] += w
                    bottom[j][i] += importance * w
                    for c in range(channels):
                        top[c][j][i] += importance * w * values[c, y, x].item()
    top, bottom, plain = (torch.tensor(t, dtype=torch.float64) for t in (top, bottom, plain))
    return top / (bottom + 1e-7), plain[None], (bottom / (bottom + 1e-7))[None]


@given(seed=st.integers(0, 2**16), reach=st.floats(0, 8), steep=st.sampled_from([None, 0.0, 1.0, 5.0]))
@settings(max_examples=40, deadline=None)
def test_splat_against_a_loop(seed, reach, steep):
    """Sub-pixel landings, several sources on one target, pixels that leave, with and without a metric."""
    values, flow = noise(2, 3, 5, 4, seed=seed), reach * noise(2, 2, 5, 4, seed=seed + 1)
    metric = None if steep is None else (steep * noise(2, 1, 5, 4, seed=seed + 2)).clamp(-10, 10)
    (splatted, weight), (inside, coverage) = (f(values, flow, metric) for f in (softmax_splat, splat_with_coverage))
    for n in range(2):
        expected = loop_splat(values[n], flow[n], None if metric is None else metric[n])
        for ours, loop in zip((splatted[n], weight[n], coverage[n]), expected, strict=True):
            torch.testing.assert_close(ours, loop, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inside, splatted)


def test_named_landings():
    """One row of four pixels, values 1 2 3 4; each case worked out by hand."""
    values = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]).double()

    def splat(dx, metric=None):
        flow = torch.tensor([[[dx], [[0.0] * 4]]]).double()
        metric = None if metric is None else torch.tensor([[[metric]]]).double()
        out, weight = softmax_splat(values, flow, metric)
        return out.flatten().tolist(), weight.flatten().tolist()

    def near(expected):
        return pytest.approx(expected, abs=1e-5)

    assert splat([0, 0, 0, 0]) == (near([1, 2, 3, 4]), near([1, 1, 1, 1]))
    assert splat([1, 1, 1, 1]) == (near([0, 1, 2, 3]), near([0, 1, 1, 1])), "4 leaves the image, a hole opens"
    assert splat([0.5, 0, 0, 0]) == (near([1, (0.5 + 2) / 1.5, 3, 4]), near([0.5, 1.5, 1, 1])), "sub-pixel"
    assert splat([-0.25, 0, 0, 0.75]) == (near([1, 2, 3, 4]), near([0.75, 1, 1, 0.25])), "partly outside"
    assert splat([2, 1, 0, 0]) == (near([0, 0, 2, 4]), near([0, 0, 3, 1])), "three on one target: their mean"
    win = [math.exp(m) for m in (0, -1, -3)]
    mixed = (1 * win[0] + 2 * win[1] + 3 * win[2]) / sum(win)
    assert splat([2, 1, 0, 0], [0, -1, -3, 0]) == (near([0, 0, mixed, 4]), near([0, 0, 3, 1])), "softmax of M"
    assert splat([1e30, -1e30, 9, -9]) == (near([0] * 4), near([0] * 4)), "far away is outside, however far"


@pytest.mark.parametrize("device", DEVICES)
def test_gradients(device):
    inputs = [noise(1, 2, 4, 5, seed=0), 2 * noise(1, 2, 4, 5, seed=1), noise(1, 1, 4, 5, seed=2)]
    inputs = [x.to(device).requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(softmax_splat, inputs)
    assert torch.autograd.gradcheck(lambda v, f: softmax_splat(v, f), inputs[:2])


@pytest.mark.parametrize("device", DEVICES)
def test_same_bits_twice_and_alone_or_in_a_batch(device):
    values, flow = noise(8, 5, 16, 16).float().to(device), 6 * noise(8, 2, 16, 16, seed=1).float().to(device)
    metric = -noise(8, 1, 16, 16, seed=2).float().abs().to(device)
    first = softmax_splat(values, flow, metric)
    again = softmax_splat(values, flow, metric)
    alone = [softmax_splat(values[n : n + 1], flow[n : n + 1], metric[n : n + 1]) for n in range(8)]
    for k in (0, 1):
        assert torch.equal(first[k], again[k])
        assert torch.equal(first[k], torch.cat([a[k] for a in alone]))


def test_half_precision_sums_in_float32():
    """Sums of exp(10) overflow float16; the result must be that of float32, rounded once."""
    values, flow = noise(1, 2, 8, 8).half(), torch.zeros(1, 2, 8, 8)
    flow[:, 0] = -torch.arange(8.0)
    metric = torch.full((1, 1, 8, 8), 10.0).half()
    splatted, weight = softmax_splat(values, flow, metric)
    assert splatted.dtype == torch.float16 and torch.isfinite(splatted).all() and (weight[..., 0] == 8).all()
    torch.testing.assert_close(splatted, softmax_splat(values.float(), flow, metric.float())[0].half())


def test_flow_that_is_not_finite_lands_nowhere():
    """Values are not looked at (that would stop a GPU): NaN and infinity are outside, the other pixels untouched."""
    values, flow = noise(1, 3, 4, 5), torch.zeros(1, 2, 4, 5).double()
    flow[0, 0, 1, 2], flow[0, 1, 2, 3] = float("nan"), float("inf")
    splatted, weight = softmax_splat(values, flow)
    seen = weight[0, 0] > 0
    assert seen.sum() == 18 and not seen[1, 2] and not seen[2, 3]
    torch.testing.assert_close(splatted[..., seen], values[..., seen])
    assert (splatted[..., ~seen] == 0).all()
