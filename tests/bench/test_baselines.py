"""Every method that needs no foreign weights, on the tiny random model: the interface, and what each one promises."""

import math
from dataclasses import replace

import pytest
import torch

from interp_lib.bench.baselines import latents, papers, pixels
from interp_lib.bench.baselines._frames import halvings
from interp_lib.bench.methods import METHODS, find_method, run_method
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.models.image_model import up_block_self_attentions
from interp_lib.types import Pair

FAST = {"steps": 4, "inversion_steps": 2, "lora_steps": 2}
OWN = [name for name, method in METHODS.items() if method.kind == "image" and "RAFT" not in name]


@pytest.fixture(scope="module")
def pair(images):
    return Pair("here", images[:1], images[1:], caption="a cat")


@pytest.mark.long
@pytest.mark.parametrize("name", OWN)
def test_methods_on_an_image_model(tiny, pair, name):
    method = find_method(name)
    if method.make is papers.dreammover:
        method = replace(method, options=method.options | {"lora": False})  # the fit is tested elsewhere
    before = {k: v.clone() for k, v in tiny.unet.state_dict().items()}
    made, again = (method.run(tiny, pair, frames=3, seed=1, settings=FAST) for _ in range(2))
    assert made.frames.shape == (5, *pair.image0.shape[1:]) and made.frames.dtype == torch.float32
    assert torch.equal(made.frames[:1], pair.image0) and torch.equal(made.frames[-1:], pair.image1)
    assert torch.equal(made.frames, again.frames)
    assert 0 <= float(made.frames.min()) and float(made.frames.max()) <= 1
    after = tiny.unet.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_classical_flow_moves_what_a_cross_dissolve_doubles():
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    blob = torch.exp(-((torch.arange(64) - 24.0) ** 2)[None] / 60 - ((torch.arange(64) - 32.0) ** 2)[:, None] / 60)
    images = [0.3 * ramp + 0.6 * blob.roll(shift, 1) for shift in (0, 3, 6)]
    pair = Pair("blob", images[0], images[2])
    dissolve = pixels.cross_dissolve(None, pair, frames=3, seed=0).frames
    assert torch.allclose(dissolve[1:2], 0.75 * pair.image0 + 0.25 * pair.image1, atol=1e-6)
    error = [
        float((make(None, pair, frames=1, seed=0).frames[1] - images[1]).square().mean())
        for make in (pixels.classical_flow, pixels.cross_dissolve)
    ]
    assert error[0] < 0.5 * error[1]


def test_slerp_keeps_the_length_and_the_angle():
    a, b = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    mixed = latents.along_arc(a, b, torch.tensor([0.0, 1 / 3, 1.0]).view(3, 1, 1, 1)).flatten(1)
    expected = [[2.0, 0.0], [2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)], [0.0, 2.0]]
    assert torch.allclose(mixed, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 5, 7, 12])
def test_diffinterp_makes_every_frame_once_between_frames_that_are_there(frames):
    there = {0, frames + 1}
    for generation in halvings(frames):
        for low, k, high in generation:
            assert low in there and high in there and low < k < high and k not in there
        there |= {k for _, k, _ in generation}
    assert there == set(range(frames + 2))


def test_diffinterp_is_the_papers_algorithm_for_one_frame(tiny, pair):
    """The frame half-way: one noise for both, mixed along an arc at 60 % of the steps."""
    made = latents.diffinterp(tiny, pair, frames=1, seed=3, steps=5).latents
    clean = tiny.encode(torch.cat([pair.image0, pair.image1]))
    noise = torch.randn(clean[:1].shape, generator=torch.Generator().manual_seed(3))
    words = tiny.embed_text("a cat")
    a = tiny.alpha_bar(401)  # of 1, 201, 401, 601, 801 the third
    noisy = [a**0.5 * z + (1 - a) ** 0.5 * noise for z in clean.split(1)]
    z = latents.along_arc(*noisy, torch.tensor(0.5).view(1, 1, 1, 1))
    with torch.no_grad():
        for t, below in ((401, 201), (201, 1), (1, 0)):
            z = latents.ddim_step(z, tiny.predict_noise(z, t, words), tiny.alpha_bar(t), tiny.alpha_bar(below))
    assert torch.allclose(made[1:-1] if len(made) == 3 else made, z, atol=1e-4 * float(z.std()))


def test_diffmorpher_is_its_algorithm_written_out(tiny, images):
    """All states together, step by step, with an attention of our own: K and V from mixed inputs in the first 60 %."""
    clean, words = tiny.encode(images), tiny.embed_text("a cat")
    mix = torch.tensor([0.25, 0.5], dtype=torch.float64).view(2, 1, 1, 1)
    made = latents.morph(tiny, clean, words, [Off(), Off()], mix, 4)
    layers = [attn for b in range(4) for _, attn in up_block_self_attentions(tiny.unet, b)]
    before, now = [attn.processor for attn in layers], {"share": 0.0, "mixing": False}

    def attend(attn, x, *args, **kwargs):
        """x: [3,tokens,C], both ends and one frame between."""
        both = (1 - now["share"]) * x[:1] + now["share"] * x[1:2]
        source = torch.cat([x[:2], both if now["mixing"] else x[2:]])
        q, k, v = (f(y).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for f, y in _projections(attn, x, source))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))

    schedule, expected = (751, 501, 251, 1), []
    starts = invert(tiny, images, steps=4, inversion_steps=4, progress=False, prompt="a cat").latents[-1].split(1)
    try:
        for share in (0.25, 0.5):
            z = torch.cat([*starts, latents.along_arc(*starts, torch.tensor(share).view(1, 1, 1, 1))])
            for i, (t, below) in enumerate(zip(schedule, (*schedule[1:], 0), strict=True)):
                now |= {"share": share, "mixing": i < 0.6 * 4}
                for attn in layers:
                    attn.set_processor(attend)
                with torch.no_grad():
                    noise = tiny.predict_noise(z, t, words)
                z = latents.ddim_step(z, noise, tiny.alpha_bar(t), tiny.alpha_bar(below))
            expected.append(latents.adain(z[2:], z[:1], z[1:2], share))
    finally:
        for attn, processor in zip(layers, before, strict=True):
            attn.set_processor(processor)
    expected = torch.cat(expected)
    assert float((made - expected).square().mean().sqrt() / expected.std()) < 2e-3
    assert float((made[:1] - made[1:]).std() / expected.std()) > 0.05


def _projections(attn, x, source):
    return (attn.to_q, x), (attn.to_k, source), (attn.to_v, source)


class Off:
    """A LoRA without effect."""

    def scale(self, strength):
        pass


def test_diffmorpher_restores_the_attention_when_it_is_interrupted(tiny, images, monkeypatch):
    layers = [attn for b in range(4) for _, attn in up_block_self_attentions(tiny.unet, b)]
    before = [attn.processor for attn in layers]
    monkeypatch.setattr(latents, "ddim_step", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        latents.morph(tiny, tiny.encode(images), tiny.embed_text(""), [Off(), Off()], torch.zeros(1, 1, 1, 1), 4)
    assert before and [attn.processor for attn in layers] == before


def test_adain_gives_the_interpolated_mean_and_deviation():
    first, last, z = torch.randn(3, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    made = latents.adain(z, first, 3 * last + 1, 0.25)
    for f in (lambda x: x.mean((2, 3)), lambda x: x.std((2, 3))):
        assert torch.allclose(f(made), 0.75 * f(first) + 0.25 * f(3 * last + 1), atol=1e-5)


@pytest.mark.parametrize("frames, seed", [(2, 0), (3, 1), (7, 2)])
def test_the_shuffled_control_leaves_no_frame_in_its_place(frames, seed):
    truth = torch.rand(frames + 2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    pair = Pair("x", truth[:1], truth[-1:], frames=truth)
    assert torch.equal(pixels.truth(None, pair, frames=frames, seed=seed).frames, truth)
    mixed = pixels.shuffled(None, pair, frames=frames, seed=seed).frames
    assert torch.equal(mixed[[0, -1]], truth[[0, -1]])
    assert not any(torch.equal(a, b) for a, b in zip(mixed[1:-1], truth[1:-1], strict=True))
    assert sorted(mixed.flatten(1).sum(1).tolist()) == sorted(truth.flatten(1).sum(1).tolist())


def test_one_method_on_one_pair(tiny, pair):
    made = run_method("latent lerp", tiny, pair, frames=2)
    assert torch.equal(made.frames, find_method("latent lerp").run(tiny, pair, frames=2, seed=0, settings={}).frames)
    with pytest.raises(ValueError, match="frames=0"):
        run_method("latent lerp", tiny, pair, frames=0)


def test_the_papers_rows_take_the_models_own_settings(tiny, pair, monkeypatch):
    monkeypatch.setattr(tiny, "settings", {"inversion_steps": 25, "lora": False})
    made = run_method("DreamMover", tiny, pair, frames=1, steps=4)
    given = {"frames": 1, "steps": 4, "prompt": pair.caption, "progress": False}
    assert torch.equal(made.frames, interpolate(tiny, pair.image0, pair.image1, **given).frames)
    other = run_method("DreamMover", tiny, pair, frames=1, steps=4, inversion_steps=3)
    assert made.unet_calls < other.unet_calls and not torch.equal(made.frames, other.frames)


@pytest.mark.long
def test_rows_of_the_ablation_share_a_lora_and_no_number_changes(tiny, pair, tmp_path, monkeypatch):
    def frames(name, **settings):
        return find_method(name).run(tiny, pair, frames=2, seed=1, settings=FAST | settings).frames

    monkeypatch.setitem(papers.LORA, "paper", papers.LORA["paper"]._replace(steps=3))
    alone, shared = frames("DreamMover"), {"scratch": str(tmp_path)}
    assert torch.equal(alone, frames("DreamMover", **shared))
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(papers, "fit_lora", lambda *given, **options: pytest.fail("it is there already"))
    assert torch.equal(alone, frames("DreamMover", **shared))
    for ablated in ("DreamMover w/o replace attention", "DreamMover w/o lora"):
        assert not torch.equal(alone, frames(ablated, **shared))
    assert list(tmp_path.iterdir()) == [kept] and "scratch" not in find_method("DreamMover").takes()
