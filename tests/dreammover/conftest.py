"""The tiny random Stable-Diffusion-like pipeline of the conformance folder and its image pair."""

from pathlib import Path

import pytest
import torch

from interp_lib.dreammover.lora import fit_lora, tuner_layers
from interp_lib.images import open_image
from interp_lib.models.load import load_image_model

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "dreammover"


@pytest.fixture(scope="session")
def _tiny():
    return load_image_model(CONFORMANCE / "tiny_sd", device="cpu")


@pytest.fixture
def tiny(_tiny):
    """The model; a test that leaves an adapter or an attention processor behind fails."""
    before = dict(_tiny.unet.attn_processors)
    yield _tiny
    assert tuner_layers(_tiny.unet) == []
    assert all(a is b for a, b in zip(_tiny.unet.attn_processors.values(), before.values(), strict=True))


@pytest.fixture(scope="session")
def pair():
    """[2,3,128,128] in [0,1]"""
    return torch.cat([open_image(CONFORMANCE / f"{k}.png")[0] for k in (0, 1)])


@pytest.fixture(scope="session")
def small(pair, _tiny):
    """[2,3,S,S] from the middle, of 8x8 latents"""
    side = 8 * _tiny.vae_factor
    top = (pair.shape[-1] - side) // 2
    return pair[..., top : top + side, top : top + side].contiguous()


@pytest.fixture(scope="session")
def random_lora(_tiny, small, tmp_path_factory):
    """A saved LoRA of rank 4 with random factors: cheap, and strong enough to be seen."""
    from safetensors.torch import load_file, save_file

    path = tmp_path_factory.mktemp("lora") / "random.safetensors"
    with fit_lora(_tiny, small, steps=1, rank=4, progress=False) as lora:
        lora.save(path)
    g = torch.Generator().manual_seed(0)
    save_file({k: 0.3 * torch.randn(v.shape, generator=g) for k, v in sorted(load_file(path).items())}, path)
    return path
