"""Features come from the extra pass on (z_step, t_step); the PCA is a joint one with a fixed sign."""

import numpy as np
import pytest
import torch

from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features, estimate_flow, feature_block, pca_project

SHORT = {"steps": 20, "step": 3, "block": 1}


def hooked(model, z, t, block):
    """The block's output in a whole pass."""
    outputs = []
    hook = model.unet.up_blocks[block].register_forward_hook(lambda m, a, out: outputs.append(out))
    with torch.no_grad():
        model.unet(z, t, encoder_hidden_states=model.embed_text("").hidden.expand(len(z), -1, -1))
    hook.remove()
    return outputs[0]


@pytest.mark.parametrize("block", [0, 3])
def test_extra_pass_at_the_step(tiny, small, block):
    inversion = invert(tiny, small, steps=20, inversion_steps=3, progress=False)
    features = diffusion_features(tiny, small, **SHORT | {"block": block}, progress=False)
    assert torch.allclose(features, hooked(tiny, inversion.latents[3], 101, block), atol=1e-5)
    for depth, t in ((2, 101), (3, 151)):  # the first is the inversion's own call
        assert not torch.allclose(features, hooked(tiny, inversion.latents[depth], t, block), atol=1e-3)


def test_calls_and_hooks(tiny, small):
    ran = []
    last = tiny.unet.up_blocks[-1].register_forward_hook(lambda *a: ran.append(1))
    before = tiny.unet_calls
    diffusion_features(tiny, small, progress=False, **SHORT)
    last.remove()
    assert tiny.unet_calls - before == 3 + 1
    assert len(ran) == 3  # the extra pass stopped after the second block
    assert not tiny.unet.up_blocks[1]._forward_hooks


@pytest.mark.parametrize("depth, calls", [(1, 3), (3, 1), (5, 1)])
def test_an_inversion_is_reused_or_continued(tiny, small, depth, calls):
    fresh = diffusion_features(tiny, small, progress=False, **SHORT)
    inversion = invert(tiny, small, steps=20, inversion_steps=depth, preset="released", progress=False)
    before = tiny.unet_calls
    reused = diffusion_features(tiny, None, inversion=inversion, progress=False, **SHORT)
    assert tiny.unet_calls - before == calls
    assert torch.allclose(reused, fresh, atol=1e-5)
    assert len(inversion.latents) == depth + 1


def test_default_block_and_step(tiny, small, monkeypatch):
    """The first block from the paper's on with 32 cells a side, and step 14 of 50; the model's settings go first."""
    f = tiny.vae_factor
    assert [feature_block(tiny, f * cells) for cells in (128, 64, 63, 32, 31, 8)] == [1, 1, 2, 2, 1, 1]
    fresh = diffusion_features(tiny, small, steps=20, progress=False)
    assert torch.equal(fresh, diffusion_features(tiny, small, steps=20, step=6, block=1, progress=False))
    monkeypatch.setattr(tiny, "settings", {"feature_block": 2})
    assert feature_block(tiny, f * 128) == 2
    monkeypatch.setattr(tiny, "settings", {"feature_block": 9})
    with pytest.raises(ValueError, match="settings.json"):
        feature_block(tiny, f * 128)


def best_match(source, target):
    """For every position of [C,h,w] the offset (dx, dy) to the one of largest cosine, by plain loops."""
    _, h, w = source.shape
    a, b = (x.double() / x.double().norm(dim=0) for x in (source, target))
    flow = torch.zeros(2, h, w)
    for y in range(h):
        for x in range(w):
            scores = [(float(a[:, y, x] @ b[:, v, u]), -v, -u) for v in range(h) for u in range(w)]
            _, v, u = max(scores)
            flow[:, y, x] = torch.tensor([-u - x, -v - y])
    return flow


def test_estimated_flow_is_the_best_match_both_ways(tiny, small):
    inversion = invert(tiny, small, steps=20, inversion_steps=8, preset="released", progress=False)
    before = tiny.unet_calls
    flow01, flow10 = estimate_flow(tiny, inversion, block=1)
    assert tiny.unet_calls - before == 1
    size = inversion.latents[0].shape[-2:]
    features = hooked(tiny, inversion.latents[6], 251, 1)  # 14 of 50 is 6 of 20
    a, b = torch.nn.functional.interpolate(features.double(), size, mode="bilinear", align_corners=False)
    assert torch.equal(flow01[0], best_match(a, b)) and torch.equal(flow10[0], best_match(b, a))
    other = estimate_flow(tiny, inversion, step=3, block=2, prompt="a dog")
    assert not torch.equal(other[0], flow01)
    with pytest.raises(ValueError, match="holds 1 images"):
        estimate_flow(tiny, invert(tiny, small[:1], steps=5, inversion_steps=1, progress=False))


def test_pca_is_numpys():
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([5.0, 3, 2, 1, 0.5, 0.1], dtype=torch.float64)[:, None, None] + 7
    rows = x.permute(0, 2, 3, 1).reshape(-1, 6).numpy()
    rows = rows - rows.mean(0)
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    ours = pca_project(x).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    for k in range(3):
        plain = u[:, k] * s[k]
        assert np.allclose(ours[:, k], plain, atol=1e-8) or np.allclose(ours[:, k], -plain, atol=1e-8)
        loadings = rows.T @ ours[:, k]
        assert loadings[np.abs(loadings).argmax()] > 0


def test_pca_is_joint_and_its_sign_fixed():
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    swapped = pca_project(x.flip(0)).flip(0)
    assert torch.allclose(pca_project(x), swapped, atol=1e-5)
    assert not torch.allclose(pca_project(x)[:1], pca_project(x[:1]), atol=1e-2)
    assert pca_project(x, components=5).shape == (2, 5, 6, 6) and pca_project(x).dtype == x.dtype
