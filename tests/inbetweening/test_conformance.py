"""`preset="released"` against the arrays that the released code computes on a tiny random model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib import inbetween, load_video_model, record_temporal_attention
from interp_lib.images import open_image
from interp_lib.inbetweening.sampling import v_target

FOLDER = Path(__file__).parents[1] / "conformance" / "inbetween"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(FOLDER / "golden.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.mark.parametrize("fuse", ["average", "linear"])
def test_released_preset_reproduces_the_released_code(golden, fuse):
    model = load_video_model(FOLDER / "tiny_svd", device="cpu", reverse=FOLDER / "deltas.safetensors")
    images = [open_image(FOLDER / f"{k}.png")[0] for k in (0, 1)]
    first = []
    with record_temporal_attention(model.unet):  # it must not disturb what comes on top of it
        pass
    result = inbetween(
        model,
        *images,
        preset="released",
        fuse=fuse,
        steps=8,
        recurrence=0,
        noise_aug_strength=0.0,
        latents=golden[f"{fuse}_initial_noise"],
        on_step=lambda step: first.append(step) if step.index == 0 else None,
        progress=False,
    )
    start = golden[f"{fuse}_first_latents"]
    v = v_target(first[0].denoised, start, first[0].sigma)
    for name, value in (("first_prediction", v), ("final_latents", result.latents)):
        expected = golden[f"{fuse}_{name}"]
        worst = float((value - expected).abs().max() / expected.std())
        print(fuse, name, worst)
        assert worst < 1e-3, (fuse, name, worst)
    # the released code decodes a clip in one call; diffusers does so on the released latents
    plain = golden[f"{fuse}_final_latents"][0] / model.vae.config.scaling_factor
    with torch.no_grad():
        whole, *parts = (
            torch.cat([model.vae.decode(z, num_frames=len(z)).sample for z in plain.split(n)]) / 2 + 0.5
            for n in (14, 8)
        )
    worst = float((result.frames - whole.clamp(0, 1)).abs().max() / whole.std())
    assert worst < 1e-3, (fuse, "frames", worst)
    assert float((parts[0] - whole).abs().max() / whole.std()) > 0.1  # in chunks of 8 it is another video
