"""preset="released" computes what the released code computed on the tiny random pipeline, array by array."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features
from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.fusion import fuse_two_level
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.dreammover.sampler import Network, denoise_frames
from interp_lib.images import open_image
from interp_lib.models.load import load_image_model

FOLDER = Path(__file__).parents[1] / "conformance" / "dreammover"
GOLDEN = dict(np.load(FOLDER / "golden.npz"))
HALF_STEP = 2.0**-12  # half the spacing of float16 in [0.5, 1]: the images are stored in it


@pytest.fixture(scope="module")
def computed():
    model = load_image_model(FOLDER / "tiny_sd", device="cpu")
    images = torch.cat([open_image(FOLDER / f"{k}.png")[0] for k in (0, 1)])
    inversion = invert(model, images, preset="released", progress=False)
    options = {"lora": False, "endpoints": "reconstructed", "progress": False}
    result = interpolate(model, *images.split(1), preset="released", **options)
    net = Network(model, model.embed_text(""), 32, preset="released")
    states = denoise_frames(net, inversion, result.flow01, result.flow10, DELTAS)
    start, after = next(states), next(states)
    return {
        "z_14": inversion.latents[14],
        "features": diffusion_features(model, images, progress=False),
        "flow01": result.flow01[0].permute(1, 2, 0),
        "flow10": result.flow10[0].permute(1, 2, 0),
        "z_T": inversion.latents[-1],
        "clean_T": inversion.clean,
        "fused_clean": result.fused_clean,
        "start_latents": start.latents,
        "after_first_step": after.latents,
        "final_latents": result.latents,
        "images": result.frames[[0, 1, 16, 17, 33]],
        "unet_calls": result.unet_calls,
    }


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_array(computed, name):
    golden = torch.from_numpy(GOLDEN[name].astype(np.float32))
    assert computed[name].shape == golden.shape
    error = float((computed[name] - golden).abs().max())
    if name.startswith("flow"):
        assert error == 0
    else:
        assert error <= 1e-3 * float(golden.std()) + (HALF_STEP if name == "images" else 0)


def test_calls_are_the_minimum(computed):
    assert computed["unet_calls"] == 30 + 1 + 30 * (1 + 1) + 1


# The arithmetic alone, on the arrays of the released code.
ARRAYS = {name: torch.from_numpy(array) for name, array in GOLDEN.items()}
DELTAS = torch.arange(1, 33, dtype=torch.float64) / 33


@pytest.fixture(scope="module")
def alpha_bar():
    """SD 1.5's schedule at T = 30 of 50 steps, t = 581."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)[581].item()


def fuse(alpha_bar, delta, preset):
    clean, noisy = ARRAYS["clean_T"], ARRAYS["z_T"]
    noise = (noisy - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5
    flows = [ARRAYS[name].permute(2, 0, 1)[None] for name in ("flow01", "flow10")]
    return fuse_two_level(clean[:1], clean[1:], noise[:1], noise[1:], *flows, delta, alpha_bar, preset=preset)


def error(ours, theirs):
    """Largest difference in units of the array's standard deviation."""
    return ((ours - theirs).abs().max() / theirs.std()).item()


@pytest.mark.parametrize("tile", [4096, 100, 1])
def test_flow_is_exact(tile):
    f0, f1 = ARRAYS["features"].split(1)
    for name, source, target in (("flow01", f0, f1), ("flow10", f1, f0)):
        flow = match_features(source, target, size=(16, 16), tile=tile)
        assert torch.equal(flow[0].permute(1, 2, 0), ARRAYS[name])


def test_all_times_at_once(alpha_bar):
    latent, clean, noise = fuse(alpha_bar, DELTAS, "released")
    assert clean.shape == ARRAYS["fused_clean"].shape == (32, 4, 16, 16)
    assert error(clean, ARRAYS["fused_clean"]) < 1e-3
    start = torch.cat([ARRAYS["z_T"][:1], latent, ARRAYS["z_T"][1:]])
    assert error(start, ARRAYS["start_latents"]) < 1e-3
    torch.testing.assert_close(alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise, latent)


def test_every_time_on_its_own(alpha_bar):
    for i in range(1, 33):
        latent, clean, _ = fuse(alpha_bar, i / 33, "released")
        assert error(clean[0], ARRAYS["fused_clean"][i - 1]) < 1e-3
        assert error(latent[0], ARRAYS["start_latents"][i]) < 1e-3


def test_the_paper_is_not_the_released_code(alpha_bar):
    """Negative control: the other preset misses both arrays by far."""
    latent, clean, _ = fuse(alpha_bar, DELTAS, "paper")
    assert error(clean, ARRAYS["fused_clean"]) > 0.1
    assert error(latent, ARRAYS["start_latents"][1:-1]) > 0.1
