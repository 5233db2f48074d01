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


def run(model, images, **options):
    return inbetween(model, *images, **{**SHORT, **options})


def unit_noise(frames=3):
    return torch.randn(1, frames, 4, 8, 8, generator=torch.Generator().manual_seed(7))


def far(a, b):
    """Largest difference in standard deviations of b."""
    return float((a - b).abs().max() / b.std())


def test_same_seed_same_bits(tiny, keyframes):
    state = torch.get_rng_state()
    one, two, other = (run(tiny, keyframes, recurrence=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.latents, two.latents) and torch.equal(one.frames, two.frames)
    assert far(other.latents, one.latents) > 0.1
    by_generator = run(tiny, keyframes, recurrence=1, seed=torch.Generator().manual_seed(1))
    assert torch.equal(by_generator.latents, one.latents)
    assert torch.equal(torch.get_rng_state(), state)  # no draw from elsewhere


def test_recurrence_draws_from_the_seed(tiny, keyframes):
    """With the start given and no noise on the keyframes, what recurrence re-injects is all that a seed can change."""
    fixed = {"latents": unit_noise(), "noise_aug_strength": 0.0}
    once = [run(tiny, keyframes, seed=seed, **fixed).latents for seed in (1, 2)]
    again = [run(tiny, keyframes, seed=seed, recurrence=1, **fixed).latents for seed in (1, 2)]
    assert torch.equal(*once) and far(again[1], again[0]) > 1e-2 and far(again[0], once[0]) > 1e-2


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


@pytest.mark.parametrize("method", ["no-finetune", "trf", "vibid", "forward"])
def test_low_memory_changes_rounding_alone(tiny, keyframes, method):
    model = copy(tiny)
    model.unet = deepcopy(tiny.unet).double()  # a random network amplifies rounding
    model.low_memory = False
    whole = run(model, keyframes, method=method)
    model.low_memory = True
    with unet_batches(model.unet) as batches:
        low_memory = run(model, keyframes, method=method)
    assert 2 * low_memory.unet_calls == 2 * whole.unet_calls == len(batches)
    assert set(batches) == {1 if method in ("vibid", "forward") else 2}  # half of what one call held
    assert far(low_memory.latents, whole.latents) < 1e-5


@pytest.mark.parametrize(("less", "batch"), [(0, 4), (1, 2)])
def test_large_calls_save_memory(tiny, keyframes, monkeypatch, less, batch):
    work = 4 * 3 * 8 * 8 * tiny.unet.config.block_out_channels[0] ** 2  # two directions, two branches
    monkeypatch.setattr(video_model, "LARGE", work - less)
    with unet_batches(tiny.unet) as batches:
        result = run(tiny, keyframes)
    assert tiny.low_memory is None and set(batches) == {batch}
    assert result.unet_calls == SHORT["steps"]  # a step's batch counts once, whole or in halves


def test_low_memory_runs_the_widest_feed_forward_layers_in_parts(tiny, keyframes):
    model = copy(tiny)
    model.unet, model.low_memory = deepcopy(tiny.unet), True
    lengths = {layer: [] for layer in model.unet.modules() if isinstance(layer, FeedForward)}
    for layer, seen in lengths.items():  # what comes in, and what the layer's first part is given
        layer.register_forward_pre_hook(lambda ff, given, seen=seen: seen.append(len(given[0])))
        layer.net[0].register_forward_pre_hook(lambda net, given, seen=seen: seen.append(len(given[0])))
    run(model, keyframes, steps=1)
    widest = {*model.unet.down_blocks[0].modules(), *model.unet.up_blocks[-1].modules()}
    assert 0 < len(widest & lengths.keys()) < len(lengths)
    for layer, (whole, *parts) in ((layer, seen[: len(seen) // 2]) for layer, seen in lengths.items()):
        assert sum(parts) == whole  # of each of the two calls
        assert max(parts) == (-(-whole // processors.PARTS) if layer in widest else whole)
    assert not any("forward" in vars(layer) for layer in lengths)  # as before


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


def test_rotating_blocks_are_a_choice(tiny, keyframes):
    def latents(**options):
        return run(tiny, keyframes, steps=1, **options).latents

    every, up, one = (latents(rotate=blocks) for blocks in (None, "up_blocks", ["mid_block"]))
    assert far(up, every) > 1e-3 and far(one, every) > 1e-3 and far(one, up) > 1e-3
    assert torch.equal(latents(rotate=["down_blocks", "mid_block", "up_blocks"]), every)
    by_method = latents(method="no-finetune")
    assert torch.equal(latents(method="no-finetune", rotate="up_blocks"), by_method)
    assert far(by_method, up) > 1e-3  # no deltas


@pytest.mark.parametrize(
    "name, values", [("fps", (7, 30)), ("motion_bucket_id", (127, 10)), ("noise_aug_strength", (0, 1))]
)
def test_the_model_is_told(tiny, keyframes, name, values):
    common = {"steps": 1, "frames": 2, "latents": unit_noise(2)}
    assert far(*(run(tiny, keyframes, **common, **{name: value}).latents for value in values)) > 1e-3


@pytest.mark.parametrize("frames", [None, 2, 25])
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


def test_animation_is_the_forward_model(tiny, keyframes):
    seen = []
    video = animate(tiny, keyframes[0], frames=3, steps=2, seed=4, progress=False, on_step=seen.append)
    expected = run(tiny, keyframes, method="forward", seed=4)
    assert torch.equal(video.latents, expected.latents) and torch.equal(video.frames, expected.frames)
    assert video.unet_calls == len(seen) == 2 and seen[-1].backward is None


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


def test_dual_without_deltas_names_the_fit(tiny, keyframes):
    model = copy(tiny)
    model.reverse, model.unet_calls = None, 0
    for work in (lambda: run(model, keyframes), lambda: animate(model, keyframes[0], reverse=True, progress=False)):
        with pytest.raises(ValueError, match="method='dual' needs .*model.reverse = fit_backward_motion"):
            work()
    assert model.unet_calls == 0
    assert animate(model, keyframes[0], frames=2, steps=1, progress=False).unet_calls == 1  # forward needs none
