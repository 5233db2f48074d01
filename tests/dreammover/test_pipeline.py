"""`interpolate` and `interpolate_sequence` whole: shapes, counts, switches, batches, determinism, threads, refusals."""

import inspect
from threading import Thread

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features, estimate_flow
from interp_lib.dreammover.fusion import fuse_two_level
from interp_lib.dreammover.inputs import LORA, LoraSettings
from interp_lib.dreammover.lora import fit_lora, load_lora, tuner_layers
from interp_lib.dreammover.pipeline import QUICK, interpolate, interpolate_sequence
from interp_lib.dreammover.sampler import Network, denoise_between, denoise_frames
from interp_lib.models.load import load_image_model
from interp_lib.world import render_pair

SHORT = {"frames": 3, "steps": 10, "inversion_steps": 4, "lora": False, "progress": False}


def run(model, images, **options):
    return interpolate(model, images[:1], images[1:], **SHORT | options)


def film_of(model, images, **options):
    return interpolate_sequence(model, images, **SHORT | options)


@pytest.fixture
def quick_lora(monkeypatch):
    monkeypatch.setitem(LORA, "paper", LoraSettings(steps=2, lr=1e-2, strength=1.0))


@pytest.mark.parametrize("preset, frames, batch_size", [("paper", 1, None), ("paper", 7, 3), ("released", 33, 16)])
def test_shapes_and_minimum_of_calls(tiny, small, preset, frames, batch_size):
    result = run(tiny, small, preset=preset, frames=frames, batch_size=batch_size, inversion_steps=2)
    channels, *sides = tiny.latent_channels, *(n // tiny.vae_factor for n in small.shape[-2:])
    assert result.frames.shape == (frames + 2, *small.shape[1:])
    assert result.latents.shape == (frames + 2, channels, *sides)
    assert result.flow01.shape == result.flow10.shape == (1, 2, *sides)
    assert result.fused_clean.shape == (frames, channels, *sides)
    assert float(result.frames.min()) >= 0 and float(result.frames.max()) <= 1
    batches = -(-frames // (batch_size or frames))
    # the features are those of step 3 here, one beyond the fusion at step 2
    assert result.unet_calls == 2 + (1 + 1) + 2 * (1 + batches) + (batches if preset == "released" else 0)


def test_the_arguments_of_both():
    one, many = (list(inspect.signature(f).parameters) for f in (interpolate, interpolate_sequence))
    assert len(one) <= 17 and [n for n in many if n != "loop"] == ["model", "images", *one[3:]]


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_batches_and_the_number_of_frames_change_nothing(tiny, small, preset):
    whole, fives, three = (
        run(tiny, small, preset=preset, **n) for n in ({"frames": 7}, {"frames": 7, "batch_size": 5}, {})
    )
    assert (whole.frames - fives.frames).abs().max() < 1e-4
    assert torch.allclose(three.frames, whole.frames[::2], atol=1e-4)


def test_same_seed_same_bits(tiny, small, quick_lora):
    first, second, other = (run(tiny, small, lora=True, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.frames, second.frames) and torch.equal(first.latents, second.latents)
    assert not torch.equal(first.latents, other.latents)
    drawn, again = (torch.Generator().manual_seed(3) for _ in range(2))
    by_generator = [run(tiny, small, lora=True, seed=g).latents for g in (drawn, again, drawn)]
    assert torch.equal(by_generator[0], by_generator[1]) and not torch.equal(by_generator[0], by_generator[2])
    with torch.inference_mode():
        assert torch.equal(run(tiny, small, lora=True, seed=3).frames, first.frames)


def test_defaults_follow_the_model(tiny, small, monkeypatch, quick_lora):
    """The paper's where the model says nothing, else its settings; the notes name what was chosen."""
    free = {"inversion_steps": None, "lora": None, "frames": 1}
    paper = run(tiny, small, **free)
    assert torch.equal(paper.frames, run(tiny, small, frames=1, inversion_steps=6, lora=True).frames)
    assert paper.notes == ["chosen for this model: inversion_steps=6, lora=True, features of up-block 1"]
    monkeypatch.setattr(tiny, "settings", {"inversion_steps": 20, "lora": False, "feature_block": 2})
    own = run(tiny, small, **free)
    flow = estimate_flow(tiny, invert(tiny, small, steps=10, preset="released", progress=False), block=2)
    assert torch.equal(own.flow01, flow[0])
    assert torch.equal(own.frames, run(tiny, small, frames=1, flow=flow).frames)
    assert own.notes == ["chosen for this model: inversion_steps=4, lora=False, features of up-block 2"]
    assert run(tiny, small, frames=1, flow="zero").notes == []
    monkeypatch.setattr(tiny, "settings", {"lora": "no"})
    with pytest.raises(ValueError, match="lora in the model's settings.json"):
        run(tiny, small, **free)


def test_every_switch_changes_the_frames(tiny, small, random_lora):
    options = [{}, {"preset": "released"}, {"two_level": False}, {"attention": False}, {"lora": random_lora}]
    options += [{"flow": "zero"}, {"flow": "classical"}, {"prompt": "a dog"}, {"inversion_steps": 6}]
    options += [{"solver": "dpmsolver++"}]
    frames = [run(tiny, small, **o).frames[1:-1] for o in options]
    for i, a in enumerate(frames):
        assert all((a - b).abs().max() > 1e-3 for b in frames[:i])
    assert run(tiny, small, two_level=False, preset="released").fused_clean is None


def test_endpoints(tiny, small):
    pasted, decoded = run(tiny, small), run(tiny, small, endpoints="reconstructed")
    assert torch.equal(pasted.frames[[0, -1]], small)
    assert torch.equal(pasted.frames[1:-1], decoded.frames[1:-1])
    assert torch.allclose(decoded.frames, tiny.decode(decoded.latents))
    assert (decoded.frames[[0, -1]] - small).abs().max() > 1e-2
    # the middle frames leave the endpoints alone: theirs is the plain DDIM path of the pair
    without = run(tiny, small, frames=1, attention=False, flow="zero")
    assert torch.allclose(pasted.latents[[0, -1]], without.latents[[0, -1]], atol=1e-4)


def test_the_lora_is_taken_off_again_and_a_handle_stays(tiny, small, random_lora, quick_lora):
    none = run(tiny, small)
    run(tiny, small, lora=True)
    assert tuner_layers(tiny.unet) == []

    def stop(*args):
        raise KeyboardInterrupt

    hook = tiny.unet.mid_block.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, small, lora=random_lora)
    hook.remove()
    assert tuner_layers(tiny.unet) == []
    by_path = run(tiny, small, lora=random_lora)
    with load_lora(tiny, random_lora) as lora:
        assert torch.equal(run(tiny, small, lora=lora).frames, by_path.frames)
        assert torch.equal(run(tiny, small, lora=False).frames, none.frames)
        assert lora.strength == 1 and lora.layers()[0].active_adapters == [lora.name]
        half = run(tiny, small, lora=lora.scale(0.5))
        assert (half.latents - none.latents).abs().max() > 1e-3


def test_released_generates_at_four_fifths(tiny, small, random_lora):
    seen = []
    with load_lora(tiny, random_lora) as lora:
        layer = lora.layers()[0]
        hook = layer.register_forward_hook(lambda m, a, o: seen.append(round(m.scaling[lora.name], 6)))
        run(tiny, small, lora=lora, preset="released", inversion_steps=3)
        hook.remove()
    assert seen == [1.0] * 4 + [0.8] * 7


def test_two_threads_queue(tiny, small, random_lora):
    """Calls on one model object wait for each other: each result is that of a serial run."""

    def fitted():
        with tiny.lock, fit_lora(tiny, small, steps=2, rank=4, progress=False) as lora:
            return torch.cat([v.flatten() for v in lora.state_dict().values()])

    other = small.flip(0)
    work = {
        "interpolate": lambda: run(tiny, small, frames=1).frames,
        "with a LoRA": lambda: run(tiny, other, frames=1, lora=random_lora).frames,
        "invert": lambda: invert(tiny, small, steps=10, inversion_steps=3, progress=False).noise,
        "features": lambda: diffusion_features(tiny, other, steps=10, progress=False),
        "fit": fitted,
    }
    alone, together = {name: f() for name, f in work.items()}, {}
    threads = [Thread(target=lambda n=name, f=f: together.update({n: f()})) for name, f in work.items() for _ in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: torch.equal(together[name], alone[name]) for name in work} == dict.fromkeys(work, True)


def test_given_flow_in_latent_and_in_image_pixels(tiny, small):
    f = tiny.vae_factor
    flow = torch.randn(2, 1, 2, *(n // f for n in small.shape[-2:]), generator=torch.Generator().manual_seed(0))
    result = run(tiny, small, flow=(flow[0], flow[1]))
    assert torch.equal(result.flow01, flow[0]) and torch.equal(result.flow10, flow[1])
    wide = (f * flow).repeat_interleave(f, -1).repeat_interleave(f, -2)
    assert torch.allclose(run(tiny, small, flow=(wide[0], wide[1])).frames, result.frames, atol=1e-4)
    cropped = run(tiny, small[..., :-1, :], frames=1, flow="classical")
    assert cropped.frames.shape[-2:] == (small.shape[-2] - f, small.shape[-1])
    assert any(f"{small.shape[-1]}x{small.shape[-2] - f}" in note for note in cropped.notes)


@pytest.mark.parametrize("shift", [(16, 0), (-24, 16)])
def test_classical_flow_finds_a_translation(shift):
    dx, dy = shift
    source = F.avg_pool2d(torch.rand(1, 3, 132, 132, generator=torch.Generator().manual_seed(0)), 5, 1)
    flow = block_flow(source, source.roll((dy, dx), (2, 3)))
    inside = flow[..., 4:12, 4:12]
    assert torch.equal(inside, torch.tensor([dx, dy]).float()[None, :, None, None].expand_as(inside) / 8)


def test_classical_flow_leaves_flat_patches_alone():
    a, b = torch.full((1, 3, 64, 64), 0.3), torch.full((1, 3, 64, 64), 0.6)
    assert torch.equal(block_flow(a, b), torch.zeros(1, 2, 8, 8))


def test_pil_images_and_odd_latents(tiny, pair):
    height, width = 9 * tiny.multiple, 5 * tiny.multiple
    pixels = (pair[..., :height, :width] * 255).byte().permute(0, 2, 3, 1).numpy()
    result = interpolate(tiny, *(Image.fromarray(x).convert("RGBA") for x in pixels), **SHORT | {"frames": 1})
    assert result.frames.shape == (3, 3, height, width)
    assert any("alpha" in note for note in result.notes)


def test_refusals_come_before_any_call(tiny, small):
    """One line each; the table of arguments is that of tests/robustness."""
    before, (first, last) = tiny.unet_calls, small.split(1)
    for images, options, words in [
        ((small, last), {}, "one image for each keyframe"),
        ([first], {}, "two or more"),
        (first[0], {}, "two or more"),
        ([first, last, last], {}, "image1 and image2 are identical"),
        ([first, last, first], {"loop": True}, "image2 and image0 are identical"),
        (small, {"loop": 1}, "loop=1"),
    ]:
        with pytest.raises(ValueError, match=words) as caught:
            interpolate_sequence(tiny, images, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="LoRA"):
        run(tiny, small, lora="nowhere.safetensors")
    assert tiny.unet_calls == before


@pytest.fixture(scope="module")
def five(small):
    """[5,3,S,S]"""
    return torch.cat([small, small.flip(-1), small[:1].flip(-2)])


def test_a_sequence_of_two_is_the_pair(tiny, small, random_lora):
    options = QUICK | {"preset": "released", "lora": random_lora, "attention": False, "batch_size": 2, "prompt": "a"}
    pair, sequence = run(tiny, small, **options), film_of(tiny, small, **options)
    for name in ("frames", "latents", "flow01", "flow10", "fused_clean"):
        assert torch.equal(getattr(sequence, name), getattr(pair, name))
    assert (sequence.unet_calls, sequence.notes) == (pair.unet_calls, pair.notes)


def test_five_keyframes_cost_less_than_four_pairs(tiny, five):
    """The films of the pairs, joined; inversion and features once: 15 of 60 calls fewer."""
    film = film_of(tiny, five)
    pairs = [run(tiny, five[k : k + 2]) for k in range(4)]
    assert torch.equal(film.frames[::4], five) and film.frames.shape[0] == film.latents.shape[0] == 17
    assert torch.equal(film.flow01, torch.cat([p.flow01 for p in pairs])) and film.flow10.shape[0] == 4
    assert film.fused_clean.shape[0] == 12
    for k, pair in enumerate(pairs):
        assert (film.frames[4 * k : 4 * k + 5] - pair.frames).abs().max() < 1e-4
    separate = sum(p.unet_calls for p in pairs)
    assert separate == 4 * (4 + 1 + 4 * 2) and film.unet_calls == 4 + 1 + 4 * 4 * 2 == separate - 3 * (4 + 1)


def test_a_loop_ends_before_it_begins_again(tiny, five):
    three = five[:3]
    loop, line = (film_of(tiny, three, batch_size=2, loop=x) for x in (True, False))
    assert len(loop.frames) == len(loop.latents) == 3 * 4 and torch.equal(loop.frames[::4], three)
    assert (loop.frames[:9] - line.frames).abs().max() < 1e-4
    assert (loop.frames[9:] - run(tiny, three[[2, 0]]).frames[1:-1]).abs().max() < 1e-4
    assert loop.unet_calls == 2 * (4 + 1) + 3 * 4 * (1 + 2)  # keyframes and middle frames in batches of two


def test_one_lora_for_all_keyframes(tiny, five, quick_lora):
    options = {"frames": 1, "inversion_steps": 2, "endpoints": "reconstructed"}
    film = film_of(tiny, list(five[:3]), **options, lora=True)
    with fit_lora(tiny, five[:3], steps=2, lr=1e-2, progress=False) as lora:
        assert torch.equal(film.frames, film_of(tiny, five[:3], **options, lora=lora).frames)


@pytest.mark.long
def test_quick_is_near_the_film_of_fifty_steps(monkeypatch):
    """A third of the calls at the paper's T, the same flow, 35 dB; first-order steps as few are further off."""
    model, pair = load_image_model(device="cpu"), render_pair(1, size=64)
    monkeypatch.setattr(model, "settings", {"lora": False})
    ends = (pair.image0, pair.image1)
    fifty, quick = (interpolate(model, *ends, frames=1, progress=False, **how) for how in ({}, QUICK))
    assert (fifty.unet_calls, quick.unet_calls) == (91, 30)
    assert torch.equal(fifty.flow01, quick.flow01) and torch.equal(fifty.flow10, quick.flow10)
    assert ((fifty.frames - quick.frames)[1] ** 2).mean() < 10**-3.5


@pytest.mark.parametrize("blocks", [None, ()])
def test_a_start_of_ones_own_is_denoised_as_the_methods_own(tiny, small, blocks):
    inversion = invert(tiny, small, steps=10, inversion_steps=3, progress=False)
    flow = torch.ones(1, 2, *inversion.clean.shape[-2:])
    ends = (*inversion.clean.split(1), *inversion.noise.split(1))
    start = fuse_two_level(*ends, flow, -flow, 0.5, inversion.alpha_bar)[0]
    net = Network(tiny, tiny.embed_text(""), 1, attention=blocks is None)
    states, plain = [], list(tiny.unet.attn_processors.values())
    for state in denoise_frames(net, inversion, flow, -flow, torch.tensor([0.5], dtype=torch.float64)):
        states.append(state)  # the model can be used between two steps
        assert all(a is b for a, b in zip(tiny.unet.attn_processors.values(), plain, strict=True))
    path = list(denoise_between(tiny, inversion, start, blocks=blocks))
    assert [state.timestep for state in states] == [201, 101, 1, 0] and len(path) == 4
    result = run(tiny, small, frames=1, inversion_steps=3, flow=(flow, -flow), attention=blocks is None)
    assert torch.equal(states[-1].latents, result.latents)
    for latents, state in zip(path, states, strict=True):
        assert torch.allclose(latents, state.latents[1:2], atol=1e-4)


def test_one_block_is_neither_all_nor_none(tiny, small):
    inversion = invert(tiny, small, steps=10, inversion_steps=2, progress=False)
    start = inversion.latents[-1].mean(0, keepdim=True)
    every, none, one = (list(denoise_between(tiny, inversion, start, blocks=b))[-1] for b in (None, (), [2]))
    assert all((a - b).abs().max() > 1e-4 for a, b in ((every, none), (every, one), (none, one)))
