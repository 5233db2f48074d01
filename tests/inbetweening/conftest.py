"""The tiny random Stable-Video-Diffusion-like model of the conformance folder, its deltas, and two keyframes."""

from pathlib import Path

import pytest
import torch

from interp_lib.images import open_image
from interp_lib.inbetweening.temporal import temporal_attentions
from interp_lib.models import load_video_model

FOLDER = Path(__file__).parents[1] / "conformance" / "inbetween"


@pytest.fixture(scope="session")
def _tiny():
    return load_video_model(FOLDER / "tiny_svd", device="cpu", reverse=FOLDER / "deltas.safetensors")


@pytest.fixture(scope="session")
def _weights(_tiny):
    return {name: value.clone() for name, value in _tiny.unet.state_dict().items()}


@pytest.fixture
def tiny(_tiny, _weights):
    """The model with its reverse deltas; a test that leaves anything changed in it fails."""
    before, reverse = dict(_tiny.unet.attn_processors), _tiny.reverse
    yield _tiny
    assert all(a is b for a, b in zip(_tiny.unet.attn_processors.values(), before.values(), strict=True))
    assert all(torch.equal(value, _weights[name]) for name, value in _tiny.unet.state_dict().items())
    assert not any(p.requires_grad for p in _tiny.unet.parameters()) and not _tiny.unet.is_gradient_checkpointing
    assert _tiny.reverse is reverse and _tiny.no_rotation is None


@pytest.fixture(scope="session")
def no_rotation(_tiny):
    """Random deltas of all four projections, as strong as the reverse ones."""
    g, spread = torch.Generator().manual_seed(0), torch.cat([x.flatten() for x in _tiny.reverse.values()]).std()
    return {
        f"{name}.{p}.weight": spread * torch.randn(attn.get_submodule(p).weight.shape, generator=g)
        for name, attn in temporal_attentions(_tiny.unet).items()
        for p in ("to_q", "to_k", "to_v", "to_out.0")
    }


@pytest.fixture(scope="session")
def keyframes():
    """[2,3,64,64] in [0,1], the smallest size the tiny model takes"""
    return torch.cat([open_image(FOLDER / f"{k}.png")[0] for k in (0, 1)])
