"""The pair's LoRA: it fits, it is deterministic, it can be saved, scaled and removed without a trace."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp_lib.dreammover import lora_training
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
    with fit_lora(tiny, small, steps=20, lr=1e-2, progress=False) as lora:
        assert len(lora.losses) == 20
        assert noise_loss(tiny, small) < 0.9 * before


def states_of(model, images, **options):
    with fit_lora(model, images, **FAST | options) as lora:
        return torch.cat([v.flatten() for v in lora.state_dict().values()])


def test_where_it_is_and_same_seed_same_bits(tiny, small):
    global_state = torch.get_rng_state()
    with fit_lora(tiny, small, seed=1, **FAST) as lora:
        state = lora.state_dict()
        assert len(state) == 2 * 4 * len(tiny.unet.attn_processors) == 2 * 4 * 32
        assert all(layer.scaling[lora.name] == 1.0 for layer in lora.layers())  # alpha = rank
        assert not any(p.requires_grad for p in tiny.unet.parameters())
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.manual_seed(77)
    first = torch.cat([v.flatten() for v in state.values()])
    assert torch.equal(states_of(tiny, small, seed=1), first)
    assert not torch.equal(states_of(tiny, small, seed=2), first)


def test_large_activations_are_recomputed_and_no_bit_changes(tiny, small, monkeypatch):
    """Images of 384 px and more, in SD's terms; here the bound is lowered instead."""
    stored, runs = states_of(tiny, small), []
    for bound in (10**6, 8 * 8):
        monkeypatch.setattr(lora_training, "MOST_STORED", bound)
        ran = []
        layer = tiny.unet.up_blocks[2].attentions[0].transformer_blocks[0].attn1
        hook = layer.register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
        assert torch.equal(states_of(tiny, small), stored)
        hook.remove()
        runs.append(len(ran))
    assert runs == [FAST["steps"], 2 * FAST["steps"]]  # forward, and once more on the way back
    assert not tiny.unet.is_gradient_checkpointing


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_no_step_is_skipped(small, dtype, monkeypatch):
    """A loss scale at which float16 gradients overflow is lowered, and the step repeated."""
    monkeypatch.setattr(lora_training, "LOSS_SCALE", 2.0**28)
    model = load_image_model(CONFORMANCE / "tiny_sd", device="cpu", dtype=dtype)
    with fit_lora(model, small, steps=1, rank=4, lr=1e-2, progress=False) as lora:
        up = torch.cat([v.flatten() for k, v in lora.state_dict().items() if "lora_B" in k])
    assert up.dtype == dtype and len(lora.losses) == 1
    moved = up.float().abs() > 5e-3  # of zero, by lr: the first step of Adam is a sign
    assert moved.float().mean() > 0.9


def test_in_inference_mode(tiny, small, random_lora):
    plain = states_of(tiny, small)
    with torch.inference_mode():
        fresh = load_image_model(CONFORMANCE / "tiny_sd", device="cpu")
        with load_lora(tiny, random_lora):
            assert torch.equal(states_of(tiny, small), plain)
    assert torch.equal(states_of(fresh, small), plain)


@pytest.mark.gpu
def test_same_seed_same_bits_on_cuda(small):
    model = load_image_model(CONFORMANCE / "tiny_sd", device="cuda")
    before, first = torch.backends.cudnn.deterministic, states_of(model, small, steps=5, rank=16)
    assert all(torch.equal(states_of(model, small, steps=5, rank=16), first) for _ in range(2))
    assert torch.backends.cudnn.deterministic == before


def test_removed_without_a_trace(tiny, random_lora):
    before, keys = eps(tiny), list(tiny.unet.state_dict())
    with pytest.raises(RuntimeError, match="body"), load_lora(tiny, random_lora) as lora:
        assert (eps(tiny) - before).abs().max() > 1e-2
        assert torch.equal(lora.scale(0) and eps(tiny), before)
        raise RuntimeError("body")
    lora.remove()  # twice is once
    assert torch.equal(eps(tiny), before) and list(tiny.unet.state_dict()) == keys
    with pytest.raises(ValueError, match="removed"):
        lora.scale(1)


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
        before, beside = {n: p.data.clone() for n, p in weights.items()}, eps(lora.scale(0.8).model)
        with pytest.raises(RuntimeError, match="body"), fused_lora(tiny) as count:
            assert count == len(lora.layers()) > 0
            assert torch.allclose(eps(tiny), beside, atol=1e-5 * float(beside.std()))
            assert any(not torch.equal(p, before[n]) for n, p in weights.items())
            raise RuntimeError("body")
        assert torch.equal(eps(tiny), beside) and all(torch.equal(p, before[n]) for n, p in weights.items())
    with fused_lora(tiny) as count:
        assert count == 0


def pipeline_of(model):
    """diffusers' own pipeline around the same networks."""
    from diffusers import StableDiffusionPipeline

    parts = {name: getattr(model, name) for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def test_saved_and_loaded(tiny, small, tmp_path):
    with fit_lora(tiny, small, steps=2, lr=1e-2, rank=3, progress=False) as lora:
        path = lora.save(tmp_path / "deep" / "pair.safetensors")
        fitted = eps(tiny)
    assert [p.name for p in path.parent.iterdir()] == ["pair.safetensors"]
    with load_lora(tiny, path) as loaded:
        assert {v.shape[0] for k, v in loaded.state_dict().items() if "lora_A" in k} == {3}
        assert torch.equal(eps(tiny), fitted)


def test_two_add_up_and_leave_one_by_one(tiny, random_lora, small):
    before = eps(tiny)
    first = load_lora(tiny, random_lora)
    one = eps(tiny)
    second = load_lora(tiny, random_lora).scale(-1)
    assert torch.allclose(eps(tiny), before, atol=1e-4)  # A and -A
    second.remove()
    assert torch.equal(eps(tiny), one)
    beside = states_of(tiny, small)  # the first is off meanwhile, and on again now
    assert torch.equal(eps(tiny), one)
    first.remove()
    assert torch.equal(states_of(tiny, small), beside)
    with pytest.raises(ValueError, match="not finite at step"):
        fit_lora(tiny, small, lr=1e30, steps=8, progress=False)
    assert torch.equal(eps(tiny), before)


TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
HEADER = {"unet.r": 4, "unet.lora_alpha": 8, "unet.target_modules": TARGETS}
ALPHA = {"format": "pt", "lora_adapter_metadata": json.dumps(HEADER)}


def kohya(layer):
    return "lora_unet_" + layer.replace(".", "_")


def named(pairs, name, down, up):
    """The factors of every layer under other keys."""
    keys = {layer: (name(layer) + down, name(layer) + up) for layer in pairs}
    return {key: v for layer, ab in pairs.items() for key, v in zip(keys[layer], ab, strict=True)}


def rewritten(state, kind):
    """The factors of a file of ours as other programs write them, and the file's header."""
    layers = sorted({k.removeprefix("unet.").split(".lora_")[0] for k in state})
    pairs = {layer: [state[f"unet.{layer}.lora_{x}.weight"] for x in "AB"] for layer in layers}
    if kind == "diffusers, alpha in the header":
        return state, ALPHA
    if kind == "several ranks":
        pairs = {k: ab if ".to_k" not in k else [ab[0][:2], ab[1][:, :2]] for k, ab in pairs.items()}
        return named(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight"), None
    if kind == "diffusers, old":
        return named(pairs, "unet.{}".format, ".lora.down.weight", ".lora.up.weight"), None
    text = {"text": [torch.randn(4, 4), torch.randn(4, 4)]}
    te = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    out = named(pairs, kohya, ".lora_down.weight", ".lora_up.weight") | {f"{te}.alpha": torch.tensor(4.0)}
    out |= named(text, lambda _: te, ".lora_down.weight", ".lora_up.weight")
    return out | {f"{kohya(k)}.alpha": torch.tensor(8.0) for k in pairs}, None


KINDS = {"diffusers, alpha in the header": 2.0, "diffusers, old": 1.0, "several ranks": 1.0, "kohya": 2.0}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_others_act_as_in_diffusers(tiny, random_lora, tmp_path, kind):
    state, header = rewritten(load_file(random_lora), kind)
    path = tmp_path / "other.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path, header)
    plain = eps(tiny)
    pipeline = pipeline_of(tiny)
    if kind == "kohya":  # its text encoder is not part of ours
        pipeline.load_lora_into_unet(*pipeline.lora_state_dict(path), unet=tiny.unet)
    else:
        pipeline.load_lora_weights(path)
    theirs = eps(tiny)
    tiny.unet.unload_lora()
    with load_lora(tiny, path) as lora:
        assert torch.equal(eps(tiny), theirs) and (theirs - plain).abs().max() > 1e-2
        to_q = next(m for n, m in tiny.unet.named_modules() if n.endswith("attn1.to_q"))
        assert to_q.scaling[lora.name] == KINDS[kind]
        assert bool(lora.notes) == (kind == "kohya") and "text encoder" in "".join(lora.notes + ["text encoder"])
        again = lora.save(tmp_path / "again.safetensors")
    with load_lora(tiny, again):
        assert torch.equal(eps(tiny), theirs)
    pipeline.load_lora_weights(again)
    assert torch.equal(eps(tiny), theirs)
    tiny.unet.unload_lora()
    assert torch.equal(eps(tiny), plain)


def test_every_layer_has_its_own_alpha(tiny, random_lora, tmp_path):
    state, header = rewritten(load_file(random_lora), "kohya")
    state |= {k: torch.tensor(2.0) for k in state if k.endswith("to_k.alpha")}
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "kohya.safetensors", header)
    with load_lora(tiny, tmp_path / "kohya.safetensors") as lora:
        layers = [(n.split(".")[-1], m) for n, m in tiny.unet.named_modules() if hasattr(m, "scaling")]
        scaling = {name: layer.scaling[lora.name] for name, layer in layers}
    assert scaling == {"to_q": 2.0, "to_k": 0.5, "to_v": 2.0, "0": 2.0}


def damaged(header):
    return {"format": "pt", "lora_adapter_metadata": json.dumps(HEADER | header)}


@pytest.mark.parametrize(
    "change, header, words",
    [
        (lambda s: {k.replace("up_blocks.1", "up_blocks.7"): v for k, v in s.items()}, None, "another model"),
        (lambda s: dict(list(s.items())[1:]), None, "no matrix of a LoRA pair|another model"),
        (lambda s: {k.replace("unet.", "text_encoder."): v for k, v in s.items()}, None, "holds no LoRA"),
        (lambda s: {k: v.int() for k, v in s.items()}, None, "not finite floats"),
        (dict, damaged({"unet.lora_alpha": "8"}), "holds no LoRA"),
        (dict, damaged({"unet.alpha_pattern": [1]}), "holds no LoRA"),
    ],
)
def test_wrong_files(tiny, random_lora, tmp_path, change, header, words):
    path = tmp_path / "wrong.safetensors"
    save_file({k: v.contiguous() for k, v in change(load_file(random_lora)).items()}, path, header)
    with pytest.raises(ValueError, match=words) as caught:
        load_lora(tiny, path)
    assert "\n" not in str(caught.value)
