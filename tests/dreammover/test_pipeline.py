"""`interpolate` whole: shapes, counts, the switches, chunking, determinism, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib.dreammover import pipeline
from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.fusion import fuse_two_level
from interp_lib.dreammover.lora import load_lora, tuner_layers
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.dreammover.sampler import denoise_between, denoise_frames

SHORT = {"frames": 3, "steps": 10, "inversion_steps": 4, "lora": False, "progress": False}


def run(model, images, **options):
    return interpolate(model, images[:1], images[1:], **{**SHORT, **options})


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("frames, batch_size", [(1, None), (7, 3), (33, 16)])
def test_shapes_and_minimum_of_calls(tiny, small, preset, frames, batch_size):
    result = run(tiny, small, preset=preset, frames=frames, batch_size=batch_size, inversion_steps=2)
    channels, *sides = tiny.latent_channels, *(n // tiny.vae_factor for n in small.shape[-2:])
    assert result.frames.shape == (frames + 2, *small.shape[1:])
    assert result.latents.shape == (frames + 2, channels, *sides)
    assert result.flow01.shape == result.flow10.shape == (1, 2, *sides)
    assert result.fused_clean.shape == (frames, channels, *sides)
    assert float(result.frames.min()) >= 0 and float(result.frames.max()) <= 1
    chunks = -(-frames // (batch_size or frames))
    # the features are those of step 3 here, one beyond the fusion at step 2
    assert result.unet_calls == 2 + (1 + 1) + 2 * (1 + chunks) + (chunks if preset == "released" else 0)


def test_calls_of_the_defaults_until_thirty(tiny, small):
    result = run(tiny, small, frames=2, steps=50, inversion_steps=30, batch_size=1)
    assert result.unet_calls == 30 + 1 + 30 * (1 + 2)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_chunks_change_nothing(tiny, small, preset):
    whole, ones, fives = (run(tiny, small, frames=7, preset=preset, batch_size=c) for c in (None, 1, 5))
    assert (whole.frames - ones.frames).abs().max() < 1e-4
    assert (whole.frames - fives.frames).abs().max() < 1e-4


def test_number_of_frames_changes_nothing_at_the_same_time(tiny, small):
    one, three = run(tiny, small, frames=1), run(tiny, small, frames=3)
    assert torch.allclose(one.frames[1], three.frames[2], atol=1e-4)


def test_same_seed_same_bits(tiny, small, monkeypatch):
    monkeypatch.setitem(pipeline.LORA, "paper", ({"steps": 2, "lr": 1e-2}, 1.0))
    first, second, other = (run(tiny, small, lora=True, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.frames, second.frames) and torch.equal(first.latents, second.latents)
    assert not torch.equal(first.latents, other.latents)


def test_a_generator_is_a_seed(tiny, small, monkeypatch):
    monkeypatch.setitem(pipeline.LORA, "paper", ({"steps": 1, "lr": 1e-2}, 1.0))
    generators = [torch.Generator().manual_seed(s) for s in (3, 3)]
    first, second = (run(tiny, small, frames=1, inversion_steps=1, lora=True, seed=g).latents for g in generators)
    next_draw = run(tiny, small, frames=1, inversion_steps=1, lora=True, seed=generators[0]).latents
    assert torch.equal(first, second) and not torch.equal(first, next_draw)


def test_numpy_counts(tiny, small):
    counts = {
        name: np.int64(n) for name, n in {"frames": 3, "steps": 10, "inversion_steps": 4, "batch_size": 2}.items()
    }
    assert torch.equal(run(tiny, small, **counts).frames, run(tiny, small, batch_size=2).frames)


def test_in_inference_mode(tiny, small, monkeypatch):
    monkeypatch.setitem(pipeline.LORA, "paper", ({"steps": 1, "lr": 1e-2}, 1.0))
    plain = run(tiny, small, frames=1, lora=True)
    with torch.inference_mode():
        assert torch.equal(run(tiny, small, frames=1, lora=True).frames, plain.frames)


def test_a_name_is_no_model(small):
    for model in ("embedded", None):
        with pytest.raises(ValueError, match=r"give load_image_model\(\.\.\.\)") as caught:
            run(model, small)
        assert "\n" not in str(caught.value)


def test_every_switch_changes_the_frames(tiny, small, random_lora):
    options = [
        {},
        {"preset": "released"},
        {"two_level": False},
        {"attention": False},
        {"lora": random_lora},
        {"flow": "zero"},
        {"flow": "classical"},
        {"prompt": "a dog"},
        {"inversion_steps": 6},
    ]
    frames = [run(tiny, small, **o).frames[1:-1] for o in options]
    for i, a in enumerate(frames):
        for b in frames[:i]:
            assert (a - b).abs().max() > 1e-3


def test_the_ways_to_fuse_reach_the_frames(tiny, small):
    ways = [("average", "wta"), ("wta", "wta"), ("average", "average"), ("wta", "average"), ("average", "switch")]
    made = {way: run(tiny, small, frames=2, high=way[0], low=way[1]) for way in ways}
    frames = [r.frames[1:-1] for r in made.values()]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(frames) for b in frames[:i])
    assert torch.equal(made["average", "wta"].frames, run(tiny, small, frames=2).frames)  # the paper's
    for high in ("average", "wta"):  # the fused clean latents are the high level's alone
        assert torch.equal(made[high, "wta"].fused_clean, made[high, "average"].fused_clean)
    assert not torch.equal(made["wta", "wta"].fused_clean, made["average", "wta"].fused_clean)
    # the switched latents are both levels at once: there the high level only matters to `released`
    assert torch.equal(made["average", "switch"].frames, run(tiny, small, frames=2, high="wta", low="switch").frames)
    released = run(tiny, small, frames=2, preset="released")
    assert torch.equal(released.frames, run(tiny, small, frames=2, preset="released", low="switch").frames)
    for other in ({"low": "wta"}, {"high": "wta"}):
        assert not torch.equal(released.frames, run(tiny, small, frames=2, preset="released", **other).frames)


def test_the_start_is_that_of_the_fusion(tiny, small):
    """What `denoise_frames` starts from is `fuse_two_level` on the prediction at T, with the levels asked for."""
    inversion = invert(tiny, small, steps=10, inversion_steps=4, progress=False)
    g = torch.Generator().manual_seed(0)
    flow01, flow10 = torch.randn(2, 1, 2, *inversion.clean.shape[-2:], generator=g).unbind(0)
    deltas = torch.tensor([0.25, 0.5], dtype=torch.float64)
    pair = (*inversion.clean.split(1), *inversion.noise.split(1), flow01, flow10, deltas, inversion.alpha_bar)
    for levels in ({"high": "wta", "low": "average"}, {"low": "switch"}, {}):
        states = denoise_frames(tiny, inversion, flow01, flow10, deltas, tiny.embed_text(""), **levels)
        latent, clean, _ = fuse_two_level(*pair, **levels)
        start = next(states)
        assert torch.allclose(start.latents[1:-1], latent, atol=1e-4)
        assert torch.allclose(start.fused_clean, clean, atol=1e-4)


def test_direct_fusion_has_no_high_level(tiny, small):
    assert run(tiny, small, two_level=False, preset="released").fused_clean is None


def test_endpoints(tiny, small):
    pasted, made = run(tiny, small), run(tiny, small, endpoints="reconstructed")
    assert torch.equal(pasted.frames[[0, -1]], small)
    assert torch.equal(pasted.frames[1:-1], made.frames[1:-1])
    assert torch.allclose(made.frames, tiny.decode(made.latents))
    assert (made.frames[[0, -1]] - small).abs().max() > 1e-2


def test_states_and_the_model_between_them(tiny, small):
    plain, states = dict(tiny.unet.attn_processors), []

    def look(state):
        states.append(state)
        assert all(a is b for a, b in zip(tiny.unet.attn_processors.values(), plain.values(), strict=True))

    result = run(tiny, small, on_step=look)
    assert [s.timestep for s in states] == [301, 201, 101, 1, 0]
    assert torch.equal(states[-1].latents, result.latents)


def test_endpoints_go_back_where_they_came_from(tiny, small):
    """The middle frames leave the endpoints alone: theirs is the plain DDIM path of the pair."""
    with_frames, without = run(tiny, small, frames=5), run(tiny, small, frames=1, attention=False, flow="zero")
    assert torch.allclose(with_frames.latents[[0, -1]], without.latents[[0, -1]], atol=1e-4)


def test_the_lora_is_taken_off_again(tiny, small, random_lora, monkeypatch):
    monkeypatch.setitem(pipeline.LORA, "paper", ({"steps": 1, "lr": 1e-3}, 1.0))
    run(tiny, small, lora=True)
    assert tuner_layers(tiny.unet) == []

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, small, lora=random_lora, on_step=stop)
    assert tuner_layers(tiny.unet) == []


def test_a_handle_stays_and_false_means_none(tiny, small, random_lora):
    none = run(tiny, small)
    by_path = run(tiny, small, lora=random_lora)
    with load_lora(tiny, random_lora) as lora:
        assert torch.equal(run(tiny, small, lora=lora).frames, by_path.frames)
        assert torch.equal(run(tiny, small, lora=False).frames, none.frames)
        assert lora.strength == 1 and lora.layers()[0].active_adapters == [lora.name]
        half = run(tiny, small, lora=lora.scale(0.5))
        assert (half.latents - none.latents).abs().max() > 1e-3


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_fused_lora_changes_rounding_alone(tiny, small, random_lora, preset):
    beside, fused = (run(tiny, small, preset=preset, lora=random_lora, fuse_lora=x).frames for x in (False, True))
    without = run(tiny, small, preset=preset).frames
    assert float((beside - fused).abs().max()) < 1e-5 < 1e-3 < float((beside - without).abs().max())


def test_released_generates_at_four_fifths(tiny, small, random_lora):
    seen = []
    with load_lora(tiny, random_lora) as lora:
        layer = lora.layers()[0]
        hook = layer.register_forward_hook(lambda m, a, o: seen.append(round(m.scaling[lora.name], 6)))
        run(tiny, small, lora=lora, preset="released", inversion_steps=3)
        hook.remove()
    assert seen == [1.0] * 4 + [0.8] * 7


def test_given_flow(tiny, small):
    g, f = torch.Generator().manual_seed(0), tiny.vae_factor
    flow = torch.randn(2, 1, 2, *(n // f for n in small.shape[-2:]), generator=g)
    result = run(tiny, small, flow=(flow[0], flow[1]))
    assert torch.equal(result.flow01, flow[0]) and torch.equal(result.flow10, flow[1])
    wide = (f * flow).repeat_interleave(f, -1).repeat_interleave(f, -2)  # the same in image pixels
    from_image = run(tiny, small, flow=(wide[0], wide[1]))
    assert torch.allclose(from_image.frames, result.frames, atol=1e-4)
    for wrong in [(flow[0][..., :4], flow[1]), (flow[0] * float("nan"), flow[1]), (flow[0],), 3]:
        with pytest.raises(ValueError, match="flow"):
            run(tiny, small, flow=wrong)


@pytest.mark.parametrize("shift", [(16, 0), (0, -8), (-24, 16)])
def test_classical_flow_finds_a_translation(shift):
    dx, dy = shift
    source = torch.nn.functional.avg_pool2d(
        torch.rand(1, 3, 132, 132, generator=torch.Generator().manual_seed(0)), 5, 1
    )
    flow = block_flow(source, source.roll((dy, dx), (2, 3)))
    inside = flow[..., 4:12, 4:12]
    assert torch.equal(inside, torch.tensor([dx, dy]).float()[None, :, None, None].expand_as(inside) / 8)


def test_classical_flow_leaves_flat_patches_alone():
    a, b = torch.full((1, 3, 64, 64), 0.3), torch.full((1, 3, 64, 64), 0.6)
    assert torch.equal(block_flow(a, b), torch.zeros(1, 2, 8, 8))


def test_sizes_are_adapted_aloud(tiny, small):
    side, cut = small.shape[-1], small.shape[-2] - tiny.multiple
    result = run(tiny, small[..., : cut + 3, :], frames=1)
    assert result.frames.shape[-2:] == (cut, side)
    assert any(f"{side}x{cut}" in note for note in result.notes)
    assert run(tiny, small, frames=1).notes == []


def test_a_flow_of_the_uncropped_size_is_told_of_the_crop(tiny, small):
    images = small[..., :-3, :]
    flow = torch.zeros(1, 2, *images.shape[-2:])
    with pytest.raises(ValueError, match="cut as the images were .*centre crop"):
        run(tiny, images, flow=(flow, flow))
    with pytest.raises(ValueError, match=r"in image pixels\."):  # nothing was cut here
        run(tiny, small, flow=(flow, flow))


def test_a_finer_autoencoder(finer, small):
    """Half the factor: latents of twice the side, and a flow in image pixels still means the same."""
    f = finer.vae_factor
    height, width = (n // f for n in small.shape[-2:])
    result = run(finer, small, frames=1)
    assert result.frames.shape == (3, *small.shape[1:]) and result.flow01.shape == (1, 2, height, width)
    flow = torch.randn(2, 1, 2, height, width, generator=torch.Generator().manual_seed(0))
    wide = (f * flow).repeat_interleave(f, -1).repeat_interleave(f, -2)
    given = run(finer, small, frames=1, flow=(wide[0], wide[1]))
    assert torch.allclose(given.flow01, flow[0], atol=1e-5) and torch.allclose(given.flow10, flow[1], atol=1e-5)
    cropped = run(finer, small[..., : f * height - 1, :], frames=1, flow="classical")
    assert cropped.frames.shape[-2:] == (f * (height - 1), f * width)


def test_features_beyond_the_fusion_cost_their_steps(tiny, small):
    result = run(tiny, small, frames=2, inversion_steps=4, feature_step=7)
    assert result.unet_calls == 4 + 1 + 4 * 2 + (7 - 4)


def test_pil_images_and_odd_latents(tiny, pair):
    height, width = 9 * tiny.multiple, 5 * tiny.multiple
    a, b = (
        Image.fromarray((x[:, :height, :width] * 255).byte().permute(1, 2, 0).numpy()).convert("RGBA") for x in pair
    )
    result = interpolate(tiny, a, b, **{**SHORT, "frames": 1})
    assert result.frames.shape == (3, 3, height, width)
    assert any("alpha" in note for note in result.notes)


@pytest.mark.parametrize(
    "options, word",
    [
        ({"frames": 0}, "frames=0"),
        ({"frames": 2.0}, "frames=2.0"),
        ({"preset": "fast"}, "preset='fast'"),
        ({"flow": "farneback"}, "flow='farneback'"),
        ({"flow": "raft"}, "RAFT"),
        (
            {"inversion_steps": 11},
            r"inversion_steps=11 .* give inversion_steps as well \(the paper's share is 30 of 50",
        ),
        ({"steps": 0}, "steps=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "x"}, "seed='x'"),
        ({"endpoints": "none"}, "endpoints='none'"),
        ({"feature_step": 11}, "feature_step=11"),
        ({"feature_block": 7}, "feature_block=7"),
        ({"prompt": None}, "prompt"),
        ({"lora": 0.5}, "lora"),
        ({"high": "switch"}, "high='switch'"),
        ({"low": "mean"}, "low='mean'"),
        ({"two_level": False, "low": "wta"}, "low='wta' are for two-level fusion: leave them out"),
        ({"two_level": False, "high": "wta"}, "high='wta'"),
    ],
)
def test_wrong_arguments_before_any_call(tiny, small, options, word):
    before = tiny.unet_calls
    with pytest.raises(ValueError, match=word) as caught:
        run(tiny, small, **options)
    assert tiny.unet_calls == before
    assert "\n" not in str(caught.value)


def test_wrong_images_before_any_call(tiny, small):
    before = tiny.unet_calls
    with pytest.raises(ValueError, match="identical"):
        interpolate(tiny, small[0], small[0].clone(), **SHORT)
    side = small.shape[-1]
    with pytest.raises(ValueError, match=f"image0 is {side}x{side} and image1 {side // 2}x{side}"):
        interpolate(tiny, small[0], small[1, :, :, : side // 2], **SHORT)
    with pytest.raises(ValueError, match="one image at each end"):
        interpolate(tiny, small, small[1], **SHORT)
    with pytest.raises(FileNotFoundError, match="LoRA"):
        run(tiny, small, lora="nowhere.safetensors")
    assert tiny.unet_calls == before


@pytest.mark.parametrize("blocks", [None, ()])
def test_a_start_of_ones_own_is_denoised_as_the_methods_own(tiny, small, blocks):
    inversion = invert(tiny, small, steps=10, inversion_steps=3, progress=False)
    flow = torch.ones(1, 2, *inversion.clean.shape[-2:])
    ends = (*inversion.clean.split(1), *inversion.noise.split(1))
    start = fuse_two_level(*ends, flow, -flow, 0.5, inversion.alpha_bar)[0]
    context, half = tiny.embed_text(""), torch.tensor([0.5], dtype=torch.float64)
    states = list(denoise_frames(tiny, inversion, flow, -flow, half, context, attention=blocks is None))
    path = list(denoise_between(tiny, inversion, start, blocks=blocks))
    assert len(path) == len(states) == 4
    for latents, state in zip(path, states, strict=True):
        assert torch.allclose(latents, state.latents[1:2], atol=1e-4)


def test_one_block_is_neither_all_nor_none(tiny, small):
    inversion = invert(tiny, small, steps=10, inversion_steps=2, progress=False)
    start = inversion.latents[-1].mean(0, keepdim=True)
    made = [list(denoise_between(tiny, inversion, start, blocks=blocks))[-1] for blocks in (None, (), [2])]
    assert all((a - b).abs().max() > 1e-4 for a, b in ((made[0], made[1]), (made[0], made[2]), (made[1], made[2])))
