"""The tiny random Stable-Diffusion-like model of the conformance folder, with a pair of images and a flow."""

from pathlib import Path

import pytest
import torch

from interp_lib.images import open_image
from interp_lib.models.load import load_image_model

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "dreammover"


@pytest.fixture(scope="session")
def tiny():
    return load_image_model(CONFORMANCE / "tiny_sd", device="cpu")


@pytest.fixture(scope="session")
def images(tiny):
    """[2,3,S,S] in [0,1] from the middle of the pair, of 8x8 latents"""
    pair = torch.cat([open_image(CONFORMANCE / f"{k}.png")[0] for k in (0, 1)])
    side = 8 * tiny.vae_factor
    middle = slice((pair.shape[-1] - side) // 2, (pair.shape[-1] + side) // 2)
    return pair[..., middle, middle].contiguous()


@pytest.fixture(scope="session")
def flow():
    """(flow01, flow10), each [1,2,8,8]"""
    return tuple(torch.randn(2, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0))
