"""The arithmetic of preset="released" against what the released code computed (tests/conformance/dreammover)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.fusion import fuse_two_level

GOLDEN = Path(__file__).parents[1] / "conformance" / "dreammover" / "golden.npz"
DELTAS = torch.arange(1, 33, dtype=torch.float64) / 33


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def alpha_bar():
    """SD 1.5's schedule at T = 30 of 50 steps, t = 581."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)[581].item()


def fuse(golden, alpha_bar, delta, preset):
    clean, noisy = golden["clean_T"], golden["z_T"]
    noise = (noisy - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5
    flows = [golden[name].permute(2, 0, 1)[None] for name in ("flow01", "flow10")]
    return fuse_two_level(clean[:1], clean[1:], noise[:1], noise[1:], *flows, delta, alpha_bar, preset=preset)


def error(ours, theirs):
    """Largest difference in units of the array's standard deviation."""
    return ((ours - theirs).abs().max() / theirs.std()).item()


@pytest.mark.parametrize("tile", [4096, 100, 1])
def test_flow_is_exact(golden, tile):
    f0, f1 = golden["features"].split(1)
    for name, source, target in (("flow01", f0, f1), ("flow10", f1, f0)):
        flow = match_features(source, target, size=(16, 16), tile=tile)
        assert torch.equal(flow[0].permute(1, 2, 0), golden[name])


def test_all_times_at_once(golden, alpha_bar):
    latent, clean, noise = fuse(golden, alpha_bar, DELTAS, "released")
    assert clean.shape == golden["fused_clean"].shape == (32, 4, 16, 16)
    assert error(clean, golden["fused_clean"]) < 1e-3
    start = torch.cat([golden["z_T"][:1], latent, golden["z_T"][1:]])
    assert error(start, golden["start_latents"]) < 1e-3
    torch.testing.assert_close(alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise, latent)


@pytest.mark.parametrize("i", range(1, 33))
def test_every_time_on_its_own(golden, alpha_bar, i):
    latent, clean, _ = fuse(golden, alpha_bar, i / 33, "released")
    assert error(clean[0], golden["fused_clean"][i - 1]) < 1e-3
    assert error(latent[0], golden["start_latents"][i]) < 1e-3


def test_the_paper_is_not_the_released_code(golden, alpha_bar):
    """Negative control: the other preset misses both arrays by far."""
    latent, clean, _ = fuse(golden, alpha_bar, DELTAS, "paper")
    assert error(clean, golden["fused_clean"]) > 0.1
    assert error(latent, golden["start_latents"][1:-1]) > 0.1
