"""preset="released" computes what the released code computed on the tiny random pipeline, array by array."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features
from interp_lib.dreammover.pipeline import interpolate
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
    states = []
    result = interpolate(
        model,
        images[:1],
        images[1:],
        preset="released",
        lora=False,
        endpoints="reconstructed",
        on_step=states.append,
        progress=False,
    )
    return {
        "z_14": inversion.latents[14],
        "features": diffusion_features(model, images, progress=False),
        "flow01": result.flow01[0].permute(1, 2, 0),
        "flow10": result.flow10[0].permute(1, 2, 0),
        "z_T": inversion.latents[-1],
        "clean_T": inversion.clean,
        "fused_clean": result.fused_clean,
        "start_latents": states[0].latents,
        "after_first_step": states[1].latents,
        "final_latents": result.latents,
        "images": result.frames[[0, 1, 16, 17, 33]],
        "unet_calls": result.unet_calls,
        "times": [s.timestep for s in states],
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


def test_states_come_at_every_timestep(computed):
    assert computed["times"] == [1 + 20 * k for k in reversed(range(30))] + [0]
