"""`inbetween` and `animate` whole: seeds, switches, sizes, the order of time, and what they refuse."""

from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy

import pytest
import torch
from diffusers.models.attention import FeedForward

from experiments.speed.timing import unet_batches
from interp_lib import animate, inbetween
from interp_lib.images import to_pil
from interp_lib.models import processors, video_model

SHORT = {"frames": 3, "steps": 2, "recurrence": 0, "progress": False}
NAN = float("nan")


def run(model, images, **options):
    return inbetween(model, *images, **{**SHORT, **options})


def unit_noise(frames=3, seed=7, height=8, width=8):
    return torch.randn(1, frames, 4, height, width, generator=torch.Generator().manual_seed(seed))


def far(a, b):
    """Largest difference in standard deviations of b."""
    return float((a - b).abs().max() / b.std())


# seeds


def test_same_seed_same_bits(tiny, keyframes):
    state = torch.get_rng_state()
    one, two, other = (run(tiny, keyframes, recurrence=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.latents, two.latents) and torch.equal(one.frames, two.frames)
    assert far(other.latents, one.latents) > 0.1
    by_generator = run(tiny, keyframes, recurrence=1, seed=torch.Generator().manual_seed(1))
    assert torch.equal(by_generator.latents, one.latents)
    assert torch.equal(torch.get_rng_state(), state)  # no draw from elsewhere


def test_recurrence_draws_from_the_seed(tiny, keyframes):
    """With the start given and no noise on the keyframes, what recurrence puts back is all that a seed can change."""
    fixed = {"latents": unit_noise(), "noise_aug_strength": 0.0}
    once = [run(tiny, keyframes, seed=seed, **fixed).latents for seed in (1, 2)]
    assert torch.equal(*once)
    again = [run(tiny, keyframes, seed=seed, recurrence=1, **fixed).latents for seed in (1, 1, 2)]
    assert torch.equal(again[0], again[1])
    assert far(again[2], again[0]) > 1e-2 and far(again[0], once[0]) > 1e-2


def test_the_state_of_every_step_is_handed_out(tiny, keyframes):
    seen = []
    result = run(tiny, keyframes, steps=3, recurrence=2, on_step=seen.append)
    assert [(s.index, s.repeat) for s in seen] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
    assert [s.sigma for s in seen] == sorted((s.sigma for s in seen), reverse=True) and seen[0].sigma > 600
    assert torch.equal(seen[-1].latents, result.latents)
    assert torch.allclose(seen[-1].denoised, result.latents, atol=1e-5)  # the last step goes down to sigma 0
    for s in seen:
        assert torch.allclose(s.denoised, (s.forward + s.backward) / 2, atol=1e-5)
    assert torch.equal(tiny.decode(result.latents), result.frames)


# switches


@pytest.mark.parametrize("method", ["no-finetune", "trf", "vibid", "forward"])
def test_lean_calls_change_rounding_alone(tiny, keyframes, method):
    model = copy(tiny)
    model.unet = deepcopy(tiny.unet).double()  # a random network amplifies rounding
    model.low_memory = False
    whole = run(model, keyframes, method=method)
    model.low_memory = True
    with unet_batches(model.unet) as held:
        low_memory = run(model, keyframes, method=method)
    assert 2 * low_memory.unet_calls == 2 * whole.unet_calls == len(held)
    assert set(held) == {1 if method in ("vibid", "forward") else 2}  # half of what one call held
    assert far(low_memory.latents, whole.latents) < 1e-5


@pytest.mark.parametrize(("less", "batch"), [(0, 4), (1, 2)])
def test_large_calls_are_lean(tiny, keyframes, monkeypatch, less, batch):
    frames, _, height, width = run(tiny, keyframes).latents.shape[1:]
    work = 4 * frames * height * width * tiny.unet.config.block_out_channels[0] ** 2  # two directions, two branches
    monkeypatch.setattr(video_model, "LARGE", work - less)
    with unet_batches(tiny.unet) as batches:
        result = run(tiny, keyframes)
    assert tiny.low_memory is None and set(batches) == {batch}
    assert result.unet_calls == SHORT["steps"]  # a step's batch counts once, whole or in halves


def test_a_lean_call_runs_the_widest_feed_forward_layers_in_parts(tiny, keyframes):
    model = copy(tiny)
    model.unet = deepcopy(tiny.unet)
    widest = {
        layer for stage in (model.unet.down_blocks[0], model.unet.up_blocks[-1]) for layer in _feed_forward(stage)
    }
    seen = {layer: [] for layer in _feed_forward(model.unet)}
    for layer, lengths in seen.items():  # what comes in, and what the layer's first part is given
        layer.register_forward_pre_hook(lambda ff, given, lengths=lengths: lengths.append(len(given[0])))
        layer.net[0].register_forward_pre_hook(lambda net, given, lengths=lengths: lengths.append(len(given[0])))
    model.low_memory = True
    run(model, keyframes, steps=1)
    assert 0 < len(widest) < len(seen)
    for layer, (whole, *parts) in ((layer, lengths[: len(lengths) // 2]) for layer, lengths in seen.items()):
        assert sum(parts) == whole  # of each of the two calls
        assert max(parts) == (-(-whole // processors.PARTS) if layer in widest else whole)
    assert not any("forward" in vars(layer) for layer in seen)  # as before


def _feed_forward(network):
    return [layer for layer in network.modules() if isinstance(layer, FeedForward)]


def test_presets_differ_in_the_guidance_of_the_average(tiny, keyframes):
    paper, released = (run(tiny, keyframes, preset=preset).latents for preset in ("paper", "released"))
    assert far(released, paper) > 1e-2
    constant = run(tiny, keyframes, guidance_scale=(2, 2)).latents  # the mean of the ramp from 1 to 3 and its flip
    assert torch.equal(released, constant)
    assert torch.equal(run(tiny, keyframes, fuse=0.5, preset="released").latents, constant)
    linear = [run(tiny, keyframes, preset=preset, fuse="linear").latents for preset in ("paper", "released")]
    assert torch.equal(*linear) and far(linear[0], paper) > 1e-2


def test_fuse_is_the_forward_directions_weight(tiny, keyframes):
    average, linear = (run(tiny, keyframes, fuse=fuse).latents for fuse in ("average", "linear"))
    assert torch.equal(run(tiny, keyframes, fuse=0.5).latents, average)
    assert torch.equal(run(tiny, keyframes, fuse=torch.tensor([1.0, 0.5, 0.0])).latents, linear)
    whole, forward = run(tiny, keyframes, fuse=1), run(tiny, keyframes, method="forward")
    assert far(whole.latents, forward.latents) < 1e-2  # rounding of another batch, which this network multiplies
    assert far(average, forward.latents) > 0.1


def test_no_weight_on_forward_is_the_last_frame_backward(tiny, variant, keyframes):
    """With zero deltas and no maps the backward direction is the model itself, from the last frame, in flipped time."""
    zero = {name: torch.zeros_like(x) for name, x in tiny.reverse.items()}
    start, noise = unit_noise(), {"noise_aug_strength": 0.0}
    plain = variant(reverse=zero, no_rotation=zero)
    back = run(plain, keyframes, method="no-rotation", fuse=0.0, latents=start, **noise)
    forward = run(tiny, keyframes.flip(0), method="forward", latents=start.flip(1), **noise)
    assert far(back.latents, forward.latents.flip(1)) < 1e-2
    assert far(back.latents, forward.latents) > 0.1


def test_trf_is_symmetric_in_time(tiny, keyframes):
    start, options = unit_noise(), {"method": "trf", "noise_aug_strength": 0.0}
    there = run(tiny, keyframes, latents=start, **options).latents
    back = run(tiny, keyframes.flip(0), latents=start.flip(1), **options).latents
    assert far(back.flip(1), there) < 1e-2 and far(back, there) > 0.1


def test_rotating_blocks_are_a_choice(tiny, keyframes):
    every, up, one = (
        run(tiny, keyframes, steps=1, rotate=blocks).latents for blocks in (None, "up_blocks", ["mid_block"])
    )
    assert far(up, every) > 1e-3 and far(one, every) > 1e-3 and far(one, up) > 1e-3
    both = run(tiny, keyframes, steps=1, rotate=["down_blocks", "mid_block", "up_blocks"]).latents
    assert torch.equal(both, every)
    by_method = run(tiny, keyframes, steps=1, method="no-finetune").latents
    assert torch.equal(run(tiny, keyframes, steps=1, method="no-finetune", rotate="up_blocks").latents, by_method)
    assert far(by_method, up) > 1e-3  # no deltas


@pytest.mark.parametrize(
    "name, values", [("fps", (7, 30)), ("motion_bucket_id", (127, 10)), ("noise_aug_strength", (0, 1))]
)
def test_the_model_is_told(tiny, keyframes, name, values):
    made = [run(tiny, keyframes, steps=1, frames=2, latents=unit_noise(2), **{name: value}).latents for value in values]
    assert far(*made) > 1e-3


# frames and sizes


@pytest.mark.parametrize("frames", [None, 2, 9, 25])
def test_any_number_of_frames(tiny, keyframes, frames):
    result = run(tiny, keyframes, frames=frames, steps=1)
    count = frames or 14
    assert result.frames.shape == (count, 3, 64, 64) and result.latents.shape == (1, count, 4, 8, 8)
    assert float(result.frames.min()) >= 0 and float(result.frames.max()) <= 1 and len(result.notes) == 1


def test_pil_images_of_any_size(tiny, keyframes):
    """What `prepare_pair` does is noted, and so is which frames are the keyframes."""
    wide = torch.nn.functional.interpolate(keyframes[1:], (70, 180))[0]
    result = run(tiny, (to_pil(keyframes[0]), wide), steps=1)
    assert result.frames.shape == (3, 3, 64, 64)
    assert result.notes[0] == "frame1 is 180x70 pixels and frame0 64x64: fitted to it"
    assert result.notes[-1] == "keyframes, as the model draws them: frame 0, 2, counted from 0"
    result = run(tiny, (keyframes[0], wide), steps=1, size=(64, 130), frames=2)
    assert result.frames.shape == (2, 3, 64, 128) and result.latents.shape == (1, 2, 4, 8, 16)
    assert any("brought down to 128x64" in note for note in result.notes)


# animate


def test_animation_is_the_forward_model(tiny, keyframes):
    seen = []
    video = animate(tiny, keyframes[0], frames=3, steps=2, seed=4, progress=False, on_step=seen.append)
    expected = run(tiny, keyframes, method="forward", seed=4)
    assert torch.equal(video.latents, expected.latents) and torch.equal(video.frames, expected.frames)
    assert video.unet_calls == len(seen) == 2 and seen[-1].backward is None


def test_a_reversed_video_ends_at_the_image(tiny, variant, keyframes):
    """Zero deltas and no maps make the backward video the forward one, so its true order of time is the flipped one."""
    zero = {name: torch.zeros_like(x) for name, x in tiny.reverse.items()}
    options, seen = {"frames": 3, "steps": 2, "seed": 4, "progress": False}, []
    forward = animate(tiny, keyframes[0], **options)
    back = animate(
        variant(no_rotation=zero), keyframes[0], reverse=True, method="no-rotation", on_step=seen.append, **options
    )
    assert back.unet_calls == len(seen) == 2
    assert far(back.latents, forward.latents.flip(1)) < 1e-2
    assert far(back.latents, forward.latents) > 0.1
    assert far(seen[-1].forward, forward.latents) < 1e-2 and torch.equal(seen[-1].backward, seen[-1].denoised)


# what was chosen, and who waits


def test_defaults_follow_the_model_and_are_noted(tiny, keyframes):
    options = {"frames": 2, "progress": False, "noise_aug_strength": 0.0, "latents": unit_noise(2)}
    model = copy(tiny)
    model.settings = {"steps": 2, "recurrence": 1}
    chosen = inbetween(model, *keyframes, **options)
    assert chosen.unet_calls == 2 + 1
    assert chosen.notes[:2] == [f"{n}, as the model's settings.json recommends" for n in ("steps=2", "recurrence=1")]
    given = inbetween(model, *keyframes, steps=2, recurrence=1, **options)
    assert torch.equal(chosen.latents, given.latents) and given.notes == chosen.notes[2:]
    assert animate(model, keyframes[0], **options).notes == chosen.notes[:1]
    papers = inbetween(tiny, *keyframes, steps=1, **options)
    assert papers.unet_calls == 1 and papers.notes[0] == "recurrence=5, as in the paper"


def test_two_threads_on_one_model_queue(tiny, keyframes):
    """Each result is that of a run by itself, and so is the count of its calls."""
    videos = (keyframes, keyframes.flip(0), keyframes.flip(-1))
    alone = [run(tiny, images) for images in videos]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda images: run(tiny, images), videos))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.frames, other.frames) and one.unet_calls == other.unet_calls


# what is refused


def refused(model, word, work):
    before = getattr(model, "unet_calls", 0)
    with pytest.raises(ValueError, match=word) as caught:
        work()
    assert getattr(model, "unet_calls", 0) == before
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


WRONG = [  # tests/robustness has more of both functions
    ({"preset": "fast"}, "preset='fast'"),
    ({"noise_aug_strength": -0.1}, "noise_aug_strength=-0.1"),
    ({"guidance_scale": (1, 2, 3)}, "guidance_scale=.*two numbers"),
    ({"latents": torch.zeros(1, 3, 4, 8, 9)}, r"latents: \[1, 3, 4, 8, 9\] given, .* \[1, 3, 4, 8, 8\]"),
    ({"latents": torch.full((1, 3, 4, 8, 8), NAN)}, "latents: .* finite"),
    ({"fuse": "mean"}, "fuse='mean' is unknown: give 'average', 'linear'"),
    ({"fuse": torch.ones(4)}, "does not fit 3 frames"),
    ({"method": "trf", "rotate": "up_blocks"}, "rotate='up_blocks': method='trf' rotates no maps"),
    ({"method": "no-rotation"}, "'no-rotation' needs backward-motion deltas.*model.no_rotation.*rotate=False"),
]
IMAGES = [
    (lambda a, b: (torch.stack([a, b]), b), "frame0 is a batch of 2: give one image"),
    (lambda a, b: (a, b * NAN), "frame1 contains NaN"),
]


def test_wrong_arguments_and_images_before_any_call(tiny, keyframes):
    for options, word in WRONG:
        refused(tiny, word, lambda options=options: run(tiny, keyframes, **options))
    for images, word in IMAGES:
        refused(tiny, word, lambda images=images: run(tiny, images(*keyframes)))
    refused(tiny, "method='forward' rotates no maps", lambda: animate(tiny, keyframes[0], rotate="up_blocks"))


def test_dual_without_deltas_names_the_fit(variant, keyframes):
    model = variant()
    for work in (lambda: run(model, keyframes), lambda: animate(model, keyframes[0], reverse=True, progress=False)):
        refused(model, "method='dual' needs .*model.reverse = fit_backward_motion", work)
    assert animate(model, keyframes[0], frames=2, steps=1, progress=False).unet_calls == 1  # forward needs none
