"""Every public call once on a simulated GPU: no mixed devices, no generator of another device, no waiting in a step."""

from pathlib import Path

import pytest
import torch

import interp_lib
from interp_lib import fit_lora, inbetween, interpolate, invert, load_image_model, load_video_model
from interp_lib.dreammover.inputs import LORA
from tests.device.simulated import OnDevice, simulated_device

CONFORMANCE = Path(__file__).parents[1] / "conformance"
IMAGE, VIDEO = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
DELTAS = CONFORMANCE / "inbetween" / "deltas.safetensors"
SHORT = {"frames": 2, "steps": 4, "inversion_steps": 2, "progress": False}
BRIEF = {"frames": 3, "steps": 2, "recurrence": 1, "progress": False}


@pytest.fixture
def device():
    with simulated_device() as device:
        yield device


@pytest.fixture
def model(device):
    return load_image_model(IMAGE, device="cuda:0", dtype=torch.float32)


@pytest.fixture
def video(device):
    model = load_video_model(VIDEO, device="cuda:0", dtype=torch.float32, reverse=DELTAS)
    model.no_rotation = model.reverse
    return model


@pytest.fixture
def pair():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).split(1)


@pytest.fixture
def keyframes():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(1)


@pytest.fixture(scope="module")
def lora_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lora") / "pair.safetensors"
    with fit_lora(load_image_model(IMAGE, device="cpu"), torch.rand(2, 3, 32, 32), steps=1, progress=False) as lora:
        return lora.save(path)


def test_the_device_refuses_and_counts(device):
    there, here = torch.ones(2, 2, device="cuda:0"), torch.ones(2, 2)
    assert there.device == torch.device("cuda:0") and there.is_cuda and (there + torch.tensor(1.0)).is_cuda
    with pytest.raises(RuntimeError, match="mixes devices"):
        there + here
    with pytest.raises(RuntimeError, match="generator of cpu"):
        torch.randn(2, device="cuda:0", generator=torch.Generator())
    assert not device.synchronisations
    waits = [lambda: there.sum().item(), lambda: bool(there.any()), lambda: there.cpu(), lambda: there.to("cpu")]
    waits += [there.tolist, there.nonzero, lambda: there[there > 0], lambda: here.copy_(there)]
    for count, wait in enumerate(waits, start=1):
        wait()
        assert device.synchronisations.total() == count
    weight = torch.nn.Parameter(there.clone())
    (weight**3).sum().backward()
    assert isinstance(weight.grad, OnDevice) and torch.equal(weight.grad.cpu(), 3 * here)


RUNS = {
    "paper": {"lora": False},
    "released": {"lora": True, "preset": "released"},
    "LoRA file": {"lora": "file"},
    "LoRA handle, no attention": {"lora": "handle", "attention": False},
    "one level": {"lora": False, "two_level": False, "endpoints": "reconstructed", "batch_size": 1},
    "classical": {"lora": False, "flow": "classical"},
    "zero, released": {"lora": False, "flow": "zero", "preset": "released"},
    "offload, LoRA": {"lora": True, "preset": "released", "offload": True},
    "offload, LoRA file": {"lora": "file", "offload": True},
    "offload, LoRA handle": {"lora": "handle", "offload": True},
}


@pytest.mark.parametrize("name", RUNS)
def test_interpolate(device, pair, lora_file, monkeypatch, name):
    options = dict(RUNS[name])
    model = load_image_model(IMAGE, device="cuda:0", dtype=torch.float32, offload=options.pop("offload", False))
    monkeypatch.setitem(LORA, "released", LORA["released"]._replace(steps=1))
    if isinstance(options["lora"], str):
        options["lora"] = lora_file if options["lora"] == "file" else interp_lib.load_lora(model, lora_file)
    result = interpolate(model, *pair, **SHORT, **options)
    assert result.latents.is_cuda and not result.frames.is_cuda and bool(torch.isfinite(result.frames).all())


def test_the_parts_of_dreammover(device, model, pair, tmp_path):
    both = torch.cat(pair)
    inversion = invert(model, both, steps=4, inversion_steps=2, progress=False)
    features = interp_lib.diffusion_features(model, both, steps=4, step=2, progress=False)
    interp_lib.pca_project(features)
    flow = interp_lib.match_features(features[:1], features[1:], size=4)
    assert flow.is_cuda
    interp_lib.refine_subpixel(features[:1], features[1:], flow, size=4)
    flows = interp_lib.estimate_flow(model, inversion, step=2)
    interp_lib.consistency_mask(*flows)
    clean, noise = inversion.clean.split(1), inversion.noise.split(1)
    splatted, _ = interp_lib.softmax_splat(clean[0], flows[0], interp_lib.brightness_metric(*clean, flows[0]))
    assert splatted.is_cuda and interp_lib.backwarp(clean[1], flows[0]).is_cuda
    interp_lib.winning_source(*flows, 0.5)
    interp_lib.high_frequency_energy(interp_lib.fuse_direct(*clean, *flows, [0.25, 0.5]))
    for preset in ("paper", "released"):
        start, _, _ = interp_lib.fuse_two_level(*clean, *noise, *flows, [0.25, 0.5], inversion.alpha_bar, preset=preset)
    for middle in (start, start.cpu()):
        assert all(state.is_cuda for state in interp_lib.denoise_between(model, inversion, middle))
    found = interp_lib.suitability(model, *pair, steps=4, progress=False)
    assert 0 <= found.score <= 1
    with fit_lora(model, both, steps=2, progress=False) as lora:
        lora.scale(0.5).save(tmp_path / "lora.safetensors")
    interp_lib.randomly_initialised(model).predict_noise(inversion.noise, 1, model.embed_text(""))


@pytest.mark.parametrize("method", ["dual", "no-rotation", "no-finetune", "trf", "forward", "vibid", "vibid-plain"])
def test_inbetween(video, keyframes, method):
    result = inbetween(video, *keyframes, method=method, **BRIEF)
    assert result.latents.is_cuda and not result.frames.is_cuda and bool(torch.isfinite(result.frames).all())


def test_the_parts_of_inbetweening(device, video, keyframes):
    given = torch.randn(1, 3, 4, 8, 8)
    inbetween(video, *keyframes, preset="released", fuse="linear", latents=given, **BRIEF)
    interp_lib.inbetween_sequence(video, [*keyframes, keyframes[0]], **BRIEF)
    for reverse in (False, True):
        interp_lib.animate(video, keyframes[0], frames=3, steps=2, reverse=reverse, progress=False)
    for rotate in (False, True):
        options = {"steps": 2, "rotate": rotate, "gradient_checkpointing": rotate, "progress": False}
        fit = interp_lib.fit_backward_motion(video, torch.rand(1, 3, 3, 64, 64), **options)
        assert all(delta.is_cuda for delta in fit.deltas.values())
    video.reverse = fit.deltas
    inbetween(video, *keyframes, **BRIEF)
    inbetween(load_video_model(VIDEO, device="cuda:0", offload=True, reverse=DELTAS), *keyframes, **BRIEF)


def test_evaluate(device, pair):
    first, last = (image.to("cuda:0") for image in pair)
    frames, still = torch.cat([first, (first + last) / 2, last]), torch.zeros(1, 2, 32, 32)
    moving, ground = torch.ones(3, 1, 32, 32, dtype=torch.bool), pair[0].mean((2, 3), keepdim=True).expand_as(pair[0])
    given = {"reference": frames.cpu(), "endpoints": torch.cat(pair), "moving": moving, "ground": ground, "facing": 1.0}
    measured = interp_lib.evaluate(frames, flow=lambda i, j: still, **given)
    assert {"psnr", "ssim", "psnr_moving", "we", "high_frequency", "spread"} <= set(measured)
    interp_lib.evaluate(frames, flow="tvl1", metrics=["we"])


def waiting(device, call, *arguments, **options):
    """Return how often the host waits in a call."""
    before = device.synchronisations.total()
    call(*arguments, progress=False, **options)
    return device.synchronisations.total() - before


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_step_of_dreammover_does_not_wait(device, model, pair, preset):
    options = {"frames": 2, "lora": False, "flow": "zero", "preset": preset, "steps": 8}
    two, three = (waiting(device, interpolate, model, *pair, inversion_steps=n, **options) for n in (2, 3))
    assert two == three > 0


@pytest.mark.parametrize("method", ["dual", "vibid"])
def test_a_step_of_inbetweening_does_not_wait(device, video, keyframes, method):
    options = {"frames": 3, "method": method, "recurrence": 1}
    three, four = (waiting(device, inbetween, video, *keyframes, steps=n, **options) for n in (3, 4))
    assert three == four > 0
