"""Every public run that a device is too small for ends in one sentence that names what to reduce."""

from pathlib import Path

import pytest
import torch

from interp_lib import (
    animate,
    fit_backward_motion,
    fit_lora,
    inbetween,
    inbetween_sequence,
    interpolate,
    load_image_model,
    load_video_model,
)

CONFORMANCE = Path(__file__).parents[1] / "conformance"
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried ...")


@pytest.fixture(scope="module")
def models():
    image = load_image_model(CONFORMANCE / "dreammover" / "tiny_sd", device="cpu")
    return image, load_video_model(CONFORMANCE / "inbetween" / "tiny_svd", device="cpu")


CALLS = {
    "batch_size": lambda image, video, x: interpolate(image, *x, frames=2, lora=False, progress=False),
    "smaller rank": lambda image, video, x: fit_lora(image, torch.cat(x), progress=False),
    "fewer frames": lambda image, video, x: inbetween(video, *x, frames=3, method="trf", progress=False),
    "fewer frames or": lambda image, video, x: inbetween_sequence(video, x, method="trf", progress=False),
    "smaller size": lambda image, video, x: animate(video, x[0], frames=3, progress=False),
    "shorter or smaller clips": lambda image, video, x: fit_backward_motion(
        video, torch.cat([*x, *x])[None], steps=1, progress=False
    ),
}


def run(models, monkeypatch, advice, error):
    """Make a call whose first network raises."""

    def fail(*args, **kwargs):
        raise error

    for model in models:
        monkeypatch.setattr(model.unet, "forward", fail)
    CALLS[advice](*models, torch.rand(2, 3, 64, 64).split(1))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), CPU], ids=["gpu", "cpu"])
@pytest.mark.parametrize("advice", CALLS)
def test_one_sentence(models, monkeypatch, advice, error):
    with pytest.raises(MemoryError, match=f"^The device ran out of memory: [^.]*{advice}[^.]*\\.$"):
        run(models, monkeypatch, advice, error)


def test_other_errors_pass(models, monkeypatch):
    with pytest.raises(RuntimeError, match="something else"):
        run(models, monkeypatch, "batch_size", RuntimeError("something else"))
