"""Attention replacement: the formula, the identities, and that nothing is left behind."""

from contextlib import nullcontext

import pytest
import torch

from interp_lib.dreammover.attention import replace_self_attention
from interp_lib.dreammover.lora import load_lora
from interp_lib.models.image_model import up_block_self_attentions

T = 261


@pytest.fixture
def z():
    return torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def eps(model, z):
    return model.predict_noise(z, T, model.embed_text(""))


def plain_attention(attn, x, keys_from):
    """One frame x [L,C] attending to tokens [M,C]: loops over heads and queries, float64."""
    w = {n: getattr(attn, n).weight.double() for n in ("to_q", "to_k", "to_v")}
    q, k, v = x.double() @ w["to_q"].T, keys_from.double() @ w["to_k"].T, keys_from.double() @ w["to_v"].T
    d = q.shape[1] // attn.heads
    out = torch.zeros_like(q)
    for h in range(attn.heads):
        s = slice(h * d, (h + 1) * d)
        for i in range(len(q)):
            a = torch.softmax(k[:, s] @ q[i, s] / d**0.5, 0)
            out[i, s] = a @ v[:, s]
    return out @ attn.to_out[0].weight.double().T + attn.to_out[0].bias.double()


@torch.no_grad()
def test_layer_is_the_formula(tiny):
    attn = up_block_self_attentions(tiny.unet, 2)[0][1]
    x = torch.randn(4, 9, attn.to_q.in_features, generator=torch.Generator().manual_seed(3))
    with replace_self_attention(tiny.unet):
        ours = attn(x)
    both = torch.cat([x[0], x[3]])
    for i, keys in enumerate((x[0], both, both, x[3])):
        assert torch.allclose(ours[i].double(), plain_attention(attn, x[i], keys), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["batch", "stored"])
def test_recorded_maps_are_the_softmax(tiny, mode):
    name, attn = up_block_self_attentions(tiny.unet, 2)[0]
    x = torch.randn(4, 9, attn.to_q.in_features, generator=torch.Generator().manual_seed(3))
    with replace_self_attention(tiny.unet) as control:
        plain = attn(x)
        with control.recording(name, [7, 0]) as maps:
            if mode == "batch":
                assert torch.equal(attn(x), plain)
            else:
                with control.storing():
                    attn(x[[0, 3]])
                with control.reusing():
                    assert torch.allclose(attn(x[1:3]), plain[1:3], atol=1e-6)
        attn(x)  # no longer recorded
    assert len(maps) == 1 and maps[0].shape == (2, attn.heads, 2, 2, 9)
    q, k = (x.double() @ getattr(attn, n).weight.double().T for n in ("to_q", "to_k"))
    d = q.shape[2] // attn.heads
    for frame in (0, 1):
        for h in range(attn.heads):
            s = slice(h * d, (h + 1) * d)
            for row, query in enumerate((7, 0)):
                scores = torch.tensor(
                    [float(k[end, j, s] @ q[1 + frame, query, s]) / d**0.5 for end in (0, 3) for j in range(9)]
                ).double()
                assert torch.allclose(maps[0][frame, h, row].flatten().double(), scores.softmax(0), atol=1e-6)


def test_presets_choose_by_position(tiny):
    with replace_self_attention(tiny.unet) as paper:
        assert paper.count == 9
    with replace_self_attention(tiny.unet, preset="released") as released:
        assert released.count == 6
        assert {name.split(".")[1] for name in released.names} == {"2", "3"}
    with replace_self_attention(tiny.unet, blocks=1) as one:
        assert one.count == 3 and len(set(paper.names)) == 9
    with replace_self_attention(tiny.unet, blocks=(0, 3)) as two:
        assert two.names == [n for n in paper.names if n.startswith("up_blocks.3")]


def test_without_middle_frames_bit_for_bit(tiny, z):
    before = eps(tiny, z[:2])
    with replace_self_attention(tiny.unet) as control:
        assert torch.equal(eps(tiny, z[:2]), before)
        with control.storing():
            assert torch.equal(eps(tiny, z[:2]), before)
    assert torch.equal(eps(tiny, z[:2]), before)


@pytest.mark.parametrize("lora", [False, True])
def test_stored_endpoints_equal_one_batch(tiny, z, random_lora, lora):
    plain = eps(tiny, z)
    with load_lora(tiny, random_lora) if lora else nullcontext(), replace_self_attention(tiny.unet) as control:
        whole = eps(tiny, z)
        with control.storing():
            ends = eps(tiny, z[[0, -1]])
        with control.reusing():
            middle = torch.cat([eps(tiny, part) for part in z[1:-1].split(2)])
    assert torch.allclose(torch.cat([ends[:1], middle, ends[1:]]), whole, atol=1e-4 if lora else 1e-5)
    assert ((whole - plain)[[0, -1]].abs().max() > 1e-2) == lora


def test_keys_of_middle_frames_are_never_computed(tiny, z):
    seen = []
    layers = [attn for b in (1, 2, 3) for _, attn in up_block_self_attentions(tiny.unet, b)]
    hooks = [p.register_forward_hook(lambda m, a, o: seen.append(len(o))) for x in layers for p in (x.to_k, x.to_v)]
    with replace_self_attention(tiny.unet) as control:
        eps(tiny, z)
        with control.storing():
            eps(tiny, z[:2])
        with control.reusing():
            eps(tiny, z)
    for hook in hooks:
        hook.remove()
    assert seen == [2] * 36


def test_restored_after_an_exception(tiny, z):
    before, plain = dict(tiny.unet.attn_processors), eps(tiny, z)
    with pytest.raises(RuntimeError, match="body"), replace_self_attention(tiny.unet) as control:
        assert tiny.unet.attn_processors != before
        with control.storing():
            raise RuntimeError("body")
    assert control.mode == "batch"
    assert all(a is b for a, b in zip(tiny.unet.attn_processors.values(), before.values(), strict=True))
    assert torch.equal(eps(tiny, z), plain)


def test_misuse_is_refused(tiny, z):
    with replace_self_attention(tiny.unet, blocks=2) as control:
        name = control.names[0]
        with pytest.raises(ValueError, match="not replaced"), control.recording("up_blocks.3", [0]):
            pass
        with control.recording(name, [0]), pytest.raises(ValueError, match="already"), control.recording(name, [0]):
            pass
        with pytest.raises(RuntimeError, match="body"), control.recording(name, [0]):
            raise RuntimeError("body")
        assert not control.watched
        with control.recording(name, [10**6]), pytest.raises(ValueError, match="not all tokens"):
            eps(tiny, z)
        with pytest.raises(ValueError, match="storing"), control.reusing():
            pass
        with pytest.raises(ValueError, match="two endpoints"), control.storing():
            eps(tiny, z)
