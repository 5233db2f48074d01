"""The fusion rules against a loop over every pair of source and target pixel, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_lib.dreammover.flow import backwarp, brightness_metric
from interp_lib.dreammover.fusion import (
    fuse_direct,
    fuse_two_level,
    hard_switch,
    time_weighted_fusion,
    winner_takes_all,
    winning_source,
)
from interp_lib.dreammover.splat import softmax_splat

H, W = 4, 5
ALPHA_BAR = 0.18


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scene(seed=0, reach=1.5, contrast=0.3):
    """clean0, clean1, noise0, noise1, flow01, flow10; whole flows, a saturated and an unsaturated metric among them."""
    latents = [contrast * noise(1, 3, H, W, seed=seed + k) for k in (0, 1)]
    latents += [noise(1, 3, H, W, seed=seed + k) for k in (2, 3)]
    return latents + [(reach * noise(1, 2, H, W, seed=seed + k)).round() for k in (4, 5)]


def pairs(flow):
    """(target, source, weight) of every pair of pixels, the weight as a product of two hat functions."""
    for target in range(H * W):
        for source in range(H * W):
            y, x = divmod(source, W)
            px, py = x + flow[0, 0, y, x].item(), y + flow[0, 1, y, x].item()
            w = max(0.0, 1 - abs(px - target % W)) * max(0.0, 1 - abs(py - target // W))
            if w > 1e-12:  # less is a whole-pixel landing and rounding
                yield target, source, w


def loop_splat(z, flow, metric):
    top, bottom = torch.zeros(z.shape[1], H * W).double(), torch.zeros(H * W).double()
    for target, source, w in pairs(flow):
        w *= math.exp(metric.flatten()[source].item())
        bottom[target] += w
        top[:, target] += w * z[0].flatten(1)[:, source]
    return (top / (bottom + 1e-7)).view(z.shape), (bottom / (bottom + 1e-7)).view(1, 1, H, W)


def loop_fusion(z0, z1, flow01, flow10, d, metric0, metric1):
    (s0, m0), (s1, m1) = loop_splat(z0, d * flow01, metric0), loop_splat(z1, (1 - d) * flow10, metric1)
    m = m0 * m1
    zero, one = torch.zeros_like(m), torch.ones_like(m)
    holes = 1 - torch.minimum(m0 + m1, one)
    both = m * ((1 - d) * s0 + d * s1) + holes * ((1 - d) * z0 + d * z1)
    return both + torch.maximum(m0 - m, zero) * s0 + torch.maximum(m1 - m, zero) * s1


def loop_winner(flow01, flow10, d, metric0, metric1):
    best, winner = [0.0] * (H * W), [-1] * (H * W)
    for image, (flow, share, metric) in enumerate(((d * flow01, 1 - d, metric0), ((1 - d) * flow10, d, metric1))):
        for target, source, w in pairs(flow):
            weight = w * math.exp(metric.flatten()[source].item()) * share
            if weight > best[target] * (1 + 1e-10):  # later ones must be larger, by more than rounding
                best[target], winner[target] = weight, source + image * H * W
    return winner


def loop_wta(e0, e1, flow01, flow10, d, metric0, metric1):
    out = torch.empty_like(e0)
    for target, winner in enumerate(loop_winner(flow01, flow10, d, metric0, metric1)):
        y, x = divmod(target, W)
        if winner < 0:
            out[0, :, y, x] = (e0 if d <= 0.5 else e1)[0, :, y, x]
        else:
            out[0, :, y, x] = (e0, e1)[winner // (H * W)][0].flatten(1)[:, winner % (H * W)]
    return out


def metrics_of(a0, a1, flow01, flow10, ones=False):
    return [brightness_metric(*x, ones_channel=ones) for x in ((a0, a1, flow01), (a1, a0, flow10))]


times = st.sampled_from([1 / 33, 0.25, 1 / 3, 0.5, 2 / 3, 0.9])


@given(seed=st.integers(0, 2**16), d=times, reach=st.sampled_from([0.0, 1.5, 4.0]))
@settings(max_examples=20, deadline=None)
def test_time_weighted_fusion_against_a_loop(seed, d, reach):
    c0, c1, _, _, f01, f10 = scene(seed, reach)
    metrics = metrics_of(c0, c1, f01, f10)
    fused = time_weighted_fusion(c0, c1, f01, f10, d, *metrics)
    torch.testing.assert_close(fused, loop_fusion(c0, c1, f01, f10, d, *metrics), rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 2**16), d=times, contrast=st.sampled_from([0.1, 5.0]), whole=st.booleans())
@settings(max_examples=30, deadline=None)
def test_winner_takes_all_against_a_loop(seed, d, contrast, whole):
    """High contrast saturates M at -10 and whole flows land alike, so real ties abound."""
    c0, c1, e0, e1, f01, f10 = scene(seed, contrast=contrast)
    if not whole:
        f01 = f01 + 0.37 * noise(1, 2, H, W, seed=seed + 9)
    metrics = metrics_of(c0, c1, f01, f10)
    assert winning_source(f01, f10, d, *metrics).flatten().tolist() == loop_winner(f01, f10, d, *metrics)
    assert torch.equal(winner_takes_all(e0, e1, f01, f10, d, *metrics), loop_wta(e0, e1, f01, f10, d, *metrics))


def row(*dx):
    return torch.tensor([[[dx], [[0.0] * len(dx)]]]).double()


def test_winner_ties_and_holes_by_hand():
    """Four pixels in a row; image 0 holds 0 1 2 3, image 1 holds 10 11 12 13."""
    e0, e1 = torch.arange(4.0).view(1, 1, 1, 4), torch.arange(10.0, 14.0).view(1, 1, 1, 4)
    still = row(0, 0, 0, 0)

    def wta(f0, f1, d, m0=None):
        m0 = None if m0 is None else torch.tensor([[[m0]]]).double()
        return winner_takes_all(e0, e1, f0, f1, d, m0).flatten().tolist()

    assert wta(still, still, 0.5) == [0, 1, 2, 3], "equal: image 0"
    assert wta(still, still, 0.51) == [10, 11, 12, 13], "the image nearer in time weighs more"
    assert wta(still, still, 0.49) == [0, 1, 2, 3]
    onto_third = row(4, 2, 0, -2)  # halfway: all four on pixel 2
    assert wta(onto_third, row(99, 99, 99, 99), 0.5) == [0, 1, 0, 3], "equal: lowest pixel; holes: image 0 at 1/2"
    assert wta(onto_third, row(99, 99, 99, 99), 0.5, [-1.0, -1.0, 0.0, 0.0])[2] == 2, "M decides, then the lowest"
    assert wta(row(99, 99, 99, 99), row(99, 99, 99, 99), 0.75) == [10, 11, 12, 13], "holes: the nearer image"
    assert winning_source(row(99, 99, 99, 99), row(99, 99, 99, 99), 0.5).tolist() == [[[-1] * 4]]
    thirds = row(1, 2, -1, 0)  # at 1/3, three pixels weigh 1/3 each on target 1, and two weigh 2/3 on target 2
    assert wta(thirds, row(99, 99, 99, 99), 1 / 3) == [0, 0, 1, 3]


def test_rounding_breaks_no_tie_and_fills_no_hole():
    """Pixels 1 and 3 meet at 2 with weight 0.3 each at d = 0.1, where 0.1 * 3 and 0.1 * -3 round differently.

    (1 - 0.9) * 10 is a little less than 1 in float64: target 0 gets 2e-16 of pixel 0, which is nothing.
    """
    for dtype in (torch.float32, torch.float64):
        flow = row(0, 3, 40, -3, 0).to(dtype)
        assert winning_source(flow, torch.full_like(flow, 99), 0.1)[0, 0, 2] == 1
    assert (1 - 0.9) * 10 < 1
    assert winning_source(row(99, 99, 99, 99), row(10, 99, 99, 99), 0.9).flatten().tolist() == [-1, 4, -1, -1]


def test_winner_copies_and_so_keeps_unit_variance():
    e0, e1 = (noise(1, 4, 64, 64, seed=s) for s in (0, 1))
    f01, f10 = (6 * noise(1, 2, 64, 64, seed=s) for s in (2, 3))
    taken, mean = winner_takes_all(e0, e1, f01, f10, 0.5), time_weighted_fusion(e0, e1, f01, f10, 0.5)
    values = set(torch.cat([e0, e1]).flatten().tolist())
    assert set(taken.flatten().tolist()) <= values
    assert taken.std().item() == pytest.approx(1.0, abs=0.03)
    assert mean.std().item() < 0.8


def test_direct_fusion_is_equation_6():
    _, _, z0, z1, f01, f10 = scene(reach=2.0)
    for ones, preset in ((False, "paper"), (True, "released")):
        expected = loop_fusion(z0, z1, f01, f10, 0.3, *metrics_of(z0, z1, f01, f10, ones))
        torch.testing.assert_close(fuse_direct(z0, z1, f01, f10, 0.3, preset=preset), expected)


@pytest.mark.parametrize("d", [0.2, 0.5])
def test_two_level_paper_is_equations_7_and_8(d):
    c0, c1, e0, e1, f01, f10 = scene()
    metrics = metrics_of(c0, c1, f01, f10)
    latent, clean, eps = fuse_two_level(*scene(), d, ALPHA_BAR)
    torch.testing.assert_close(clean, loop_fusion(c0, c1, f01, f10, d, *metrics))
    assert torch.equal(eps, loop_wta(e0, e1, f01, f10, d, *metrics))
    torch.testing.assert_close(latent, math.sqrt(ALPHA_BAR) * clean + math.sqrt(1 - ALPHA_BAR) * eps)


@pytest.mark.parametrize("d", [0.2, 0.8])
def test_two_level_released_switches_unwarped_latents(d):
    c0, c1, e0, e1, f01, f10 = scene(contrast=0.1)
    e0, e1 = 0.1 * e0, 0.1 * e1  # near enough for the losses to fall under 0.3
    latent, clean, eps = fuse_two_level(c0, c1, e0, e1, f01, f10, d, ALPHA_BAR, preset="released")
    a, b = math.sqrt(ALPHA_BAR), math.sqrt(1 - ALPHA_BAR)
    torch.testing.assert_close(clean, loop_fusion(c0, c1, f01, f10, d, *metrics_of(c0, c1, f01, f10, ones=True)))
    z0, z1 = a * c0 + b * e0, a * c1 + b * e1
    w0, w1 = backwarp(z1, f01), backwarp(z0, f10)
    for y in range(H):
        for x in range(W):
            l0 = sum(abs(z0[0, c, y, x] - w0[0, c, y, x]).item() for c in range(3)) / 3
            l1 = sum(abs(z1[0, c, y, x] - w1[0, c, y, x]).item() for c in range(3)) / 3
            v0, v1 = min(max(0.3 - l0, 0.001), 1) * (1 - d), min(max(0.3 - l1, 0.001), 1) * d
            torch.testing.assert_close(latent[0, :, y, x], (z0 if v0 >= v1 else z1)[0, :, y, x])
    torch.testing.assert_close(a * clean + b * eps, latent)


def test_hard_switch_ties_go_to_image_0():
    """Nothing agrees, so both weights sit at their floor and only time decides; at one half, image 0."""
    z0, z1, still = torch.zeros(1, 2, H, W), torch.full((1, 2, H, W), 9.0), torch.zeros(1, 2, H, W)
    switched = hard_switch(z0, z1, still, still, [0.49, 0.5, 0.51])
    assert torch.equal(switched, torch.cat([z0, z0, z1]))


def test_strategies_of_the_fusion_study():
    c0, c1, e0, e1, *flows = scene()
    where = (*flows, 0.4, *metrics_of(c0, c1, *flows))
    _, clean, eps = fuse_two_level(*scene(), 0.4, ALPHA_BAR, high="wta", low="average")
    assert torch.equal(clean, winner_takes_all(c0, c1, *where))
    assert torch.equal(eps, time_weighted_fusion(e0, e1, *where))
    switched = fuse_two_level(*scene(), 0.4, ALPHA_BAR, low="switch")
    assert torch.equal(switched[0], fuse_two_level(*scene(), 0.4, ALPHA_BAR, preset="released")[0])
    assert not torch.equal(switched[1], fuse_two_level(*scene(), 0.4, ALPHA_BAR, preset="released")[1])


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_times_at_once_are_the_same_bits_as_one_by_one(preset, dtype):
    latents = [noise(1, 4, 16, 16, seed=k).to(dtype) for k in range(4)]
    flows = [(3 * noise(1, 2, 16, 16, seed=k)).round().to(dtype) for k in (4, 5)]
    deltas = [i / 33 for i in range(1, 33)]
    batch = fuse_two_level(*latents, *flows, torch.tensor(deltas, dtype=torch.float64), ALPHA_BAR, preset=preset)
    alone = [fuse_two_level(*latents, *flows, d, ALPHA_BAR, preset=preset) for d in deltas]
    direct = fuse_direct(*latents[2:], *flows, deltas, preset=preset)
    for k in range(3):
        assert batch[k].shape == (32, 4, 16, 16) and batch[k].dtype == dtype
        assert torch.equal(batch[k], torch.cat([a[k] for a in alone]))
    assert torch.equal(direct[5:6], fuse_direct(*latents[2:], *flows, deltas[5], preset=preset))


def test_gradients():
    c0, c1, e0, e1, _, _ = scene()
    flows = [1.3 * noise(1, 2, H, W, seed=k) for k in (4, 5)]
    latents = [x.requires_grad_() for x in (c0, c1, e0, e1)]
    assert torch.autograd.gradcheck(lambda *z: fuse_two_level(*z, *flows, 0.3, ALPHA_BAR), latents)
    assert torch.autograd.gradcheck(
        lambda *f: time_weighted_fusion(c0.detach(), c1.detach(), *f, 0.3), [f.requires_grad_() for f in flows]
    )


def test_nothing_waits_for_the_device():
    """Meta tensors have no values: whatever looked at one, and would so stop a GPU, raises here."""
    z, flow, metric = (torch.zeros(1, n, H, W, device="meta") for n in (3, 2, 1))
    assert softmax_splat(z, flow, metric)[0].shape == backwarp(z, flow).shape == z.shape
    assert winning_source(flow, flow, 0.5, metric, metric).shape == (1, H, W)
    assert all(x.shape == (2, 3, H, W) for x in fuse_two_level(z, z, z, z, flow, flow, [0.2, 0.7], 0.5))


def test_times_must_fit_the_pairs():
    z, flow = noise(2, 3, H, W), noise(2, 2, H, W)
    with pytest.raises(ValueError, match="3 times for 2 pairs"):
        fuse_direct(z, z, flow, flow, torch.tensor([0.1, 0.2, 0.3]))
