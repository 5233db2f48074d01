"""The pair's LoRA: it fits, it is deterministic, it can be saved, scaled and removed without a trace."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp_lib.dreammover.lora import fit_lora, fused_lora, load_lora
from interp_lib.models import load_image_model

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "dreammover"
FAST = {"steps": 2, "rank": 4, "progress": False}


@torch.no_grad()
def eps(model, seed=0):
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    return model.predict_noise(z, 261, model.embed_text(""))


@torch.no_grad()
def noise_loss(model, images):
    """Mean squared error on eps over fixed draws."""
    z, g, total = model.encode(images), torch.Generator().manual_seed(5), 0.0
    for t in range(50, 1000, 100):
        noise, a = torch.randn(z.shape, generator=g), model.alpha_bar(t)
        noisy = a**0.5 * z + (1 - a) ** 0.5 * noise
        total += float((model.predict_noise(noisy, t, model.embed_text("")) - noise).square().mean())
    return total / 10


@pytest.mark.long
def test_it_fits(tiny, small):
    before = noise_loss(tiny, small)
    calls = tiny.unet_calls
    with fit_lora(tiny, small, steps=20, lr=1e-2, progress=False) as lora:
        assert tiny.unet_calls == calls
        assert len(lora.losses) == 20
        assert noise_loss(tiny, small) < 0.9 * before


def test_where_it_sits(tiny, small):
    attentions = [n for n in tiny.unet.attn_processors]
    with fit_lora(tiny, small, **FAST) as lora:
        state = lora.state_dict()
        assert len(state) == 2 * 4 * len(attentions) == 2 * 4 * 32
        assert all(layer.scaling[lora.name] == 1.0 for layer in lora.layers())  # alpha = rank
        assert all(v.shape[0] == 4 for k, v in state.items() if "lora_A" in k)
        assert not any(p.requires_grad for p in tiny.unet.parameters())


def test_same_seed_same_bits(tiny, small):
    states = []
    global_state = torch.get_rng_state()
    for seed in (1, 1, 2):
        torch.manual_seed(seed * 100 + len(states))
        with fit_lora(tiny, small, seed=seed, **FAST) as lora:
            states.append(lora.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])
    torch.set_rng_state(global_state)
    with fit_lora(tiny, small, **FAST):
        assert torch.equal(torch.get_rng_state(), global_state)


def test_a_generator_is_a_seed(tiny, small):
    states = []
    for seed in (torch.Generator().manual_seed(1), torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)):
        with fit_lora(tiny, small, seed=seed, **FAST) as lora:
            states.append(lora.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_in_inference_mode(tiny, small, random_lora):
    with fit_lora(tiny, small, **FAST) as lora:
        plain = lora.state_dict()
    with torch.inference_mode(), load_lora(tiny, random_lora), fit_lora(tiny, small, **FAST) as lora:
        assert all(torch.equal(plain[k], v) for k, v in lora.state_dict().items())
    with torch.inference_mode():
        fresh = load_image_model(CONFORMANCE / "tiny_sd", device="cpu")
    with fit_lora(fresh, small, **FAST) as lora:
        assert all(torch.equal(plain[k], v) for k, v in lora.state_dict().items())


@pytest.mark.gpu
def test_same_seed_same_bits_on_cuda(small):
    model = load_image_model(CONFORMANCE / "tiny_sd", device="cuda")
    states, before = [], torch.backends.cudnn.deterministic
    for _ in range(3):
        with fit_lora(model, small, steps=5, progress=False) as lora:
            states.append(lora.state_dict())
    assert all(torch.equal(states[0][k], s[k]) for s in states[1:] for k in s)
    assert torch.backends.cudnn.deterministic == before


def test_removed_without_a_trace(tiny, random_lora):
    before = eps(tiny)
    keys = list(tiny.unet.state_dict())
    lora = load_lora(tiny, random_lora)
    assert (eps(tiny) - before).abs().max() > 1e-2
    assert torch.equal(lora.scale(0) and eps(tiny), before)
    lora.remove()
    lora.remove()  # twice is once
    assert torch.equal(eps(tiny), before)
    assert list(tiny.unet.state_dict()) == keys
    with pytest.raises(ValueError, match="removed"):
        lora.scale(1)
    with pytest.raises(RuntimeError, match="body"), load_lora(tiny, random_lora):
        raise RuntimeError("body")
    assert torch.equal(eps(tiny), before)


def test_scale_is_that_of_the_weights(tiny, random_lora):
    name, layer = next((n, m) for n, m in tiny.unet.named_modules() if n.endswith("attn1.to_q"))
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    state = load_file(random_lora)
    a, b = (state[f"unet.{name}.lora_{f}.weight"].double() for f in "AB")
    with load_lora(tiny, random_lora) as lora, torch.no_grad():
        lora.scale(0.8)
        ours = tiny.unet.get_submodule(name)(x)
    weight = layer.weight.double() + 0.8 * b @ a
    assert torch.allclose(ours.double(), x.double() @ weight.T, atol=1e-5)


def test_fused_it_is_part_of_the_weights(tiny, random_lora):
    weights = {n: p for n, p in tiny.unet.named_parameters() if "lora" not in n}
    with load_lora(tiny, random_lora) as lora:
        before = {n: p.data.clone() for n, p in weights.items()}
        for strength in (1.0, 0.8):
            beside = eps(lora.scale(strength).model)
            with fused_lora(tiny) as count:
                assert count == len(lora.layers()) > 0
                assert torch.allclose(eps(tiny), beside, atol=1e-5 * float(beside.std()))
                assert any(not torch.equal(p, before[n]) for n, p in weights.items())
            assert torch.equal(eps(tiny), beside)  # the same bits as before
        with pytest.raises(ZeroDivisionError), fused_lora(tiny):
            1 / 0  # noqa: B018
        assert torch.equal(eps(tiny), beside) and all(torch.equal(p, before[n]) for n, p in weights.items())
        plain = eps(lora.scale(0).model)
        assert not torch.allclose(plain, beside, atol=1e-3)  # so there was something to fuse
    with fused_lora(tiny) as count:
        assert count == 0


def test_gradient_checkpointing_changes_no_bit(tiny, small):
    states = []
    for wanted in (False, True):
        with fit_lora(tiny, small, gradient_checkpointing=wanted, **FAST) as lora:
            states.append(lora.state_dict())
        assert not tiny.unet.is_gradient_checkpointing
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_saved_and_loaded(tiny, small, tmp_path):
    with fit_lora(tiny, small, steps=2, lr=1e-2, rank=3, progress=False) as lora:
        path = lora.save(tmp_path / "deep" / "pair.safetensors")
        fitted = eps(tiny)
        with pytest.raises(ValueError, match="safetensors"):
            lora.save(tmp_path / "pair.bin")
    assert [p.name for p in path.parent.iterdir()] == ["pair.safetensors"]
    with load_lora(tiny, path) as loaded:
        assert loaded.rank == 3
        assert torch.equal(eps(tiny), fitted)


def test_two_add_up_and_leave_one_by_one(tiny, random_lora, small):
    before = eps(tiny)
    first = load_lora(tiny, random_lora)
    one = eps(tiny)
    second = load_lora(tiny, random_lora).scale(-1)
    assert torch.allclose(eps(tiny), before, atol=1e-4)  # A and -A
    second.remove()
    assert torch.equal(eps(tiny), one)
    fitted = fit_lora(tiny, small, **FAST)  # the first is off meanwhile, and on again now
    alone = fitted.state_dict()
    first.remove()
    fitted.remove()
    with fit_lora(tiny, small, **FAST) as again:
        assert all(torch.equal(alone[k], v) for k, v in again.state_dict().items())
    assert torch.equal(eps(tiny), before)


def test_a_failed_fit_leaves_nothing(tiny, small):
    before = eps(tiny)
    with pytest.raises(ValueError, match="not finite at step"):
        fit_lora(tiny, small, lr=1e30, steps=8, progress=False)
    assert torch.equal(eps(tiny), before)


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 0},
        {"steps": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": None},
        {"prompt": None},
    ],
)
def test_wrong_arguments(tiny, small, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        fit_lora(tiny, small, **options)


def test_a_name_is_no_model(small, random_lora):
    for work in (lambda: fit_lora("embedded", small), lambda: load_lora("embedded", random_lora)):
        with pytest.raises(ValueError, match="give load_image_model"):
            work()


def test_wrong_files(tiny, random_lora, tmp_path):
    state = load_file(random_lora)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_lora(tiny, tmp_path / "none.safetensors")
    (tmp_path / "pickled.bin").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_lora(tiny, tmp_path / "pickled.bin")
    save_file({k: v for k, v in state.items() if "mid_block" not in k}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="another model"):
        load_lora(tiny, tmp_path / "part.safetensors")
    save_file({k: v * float("nan") for k, v in state.items()}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="finite"):
        load_lora(tiny, tmp_path / "nan.safetensors")
