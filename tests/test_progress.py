"""Bars: whatever takes more than two seconds shows one with a number that helps, and silence is silence."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib import (
    animate,
    benchmark,
    fit_backward_motion,
    fit_lora,
    inbetween,
    interpolate,
    load_clips,
    load_image_model,
    load_video_model,
    save_video,
    suitability,
)

CONFORMANCE = Path(__file__).parent / "conformance"


@pytest.fixture(scope="module")
def image_model():
    return load_image_model(CONFORMANCE / "dreammover" / "tiny_sd", device="cpu")


@pytest.fixture(scope="module")
def video_model():
    folder = CONFORMANCE / "inbetween"
    return load_video_model(folder / "tiny_svd", device="cpu", reverse=folder / "deltas.safetensors")


@pytest.fixture(scope="module")
def pair():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(1)


def runs(image_model, video_model, pair, folder):
    """name -> (what runs, with or without bars; the bars that it must show)"""
    clip = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    quick = {"frames": 2, "steps": 2}
    bare = {"steps": 4, "inversion_steps": 2, "lora": False}
    return {
        "interpolate": (
            lambda on: interpolate(image_model, *pair, frames=1, **bare, progress=on),
            ["inversion", "denoising", "decoding"],
        ),
        "fit_lora": (lambda on: fit_lora(image_model, torch.cat(pair), steps=2, progress=on).remove(), ["LoRA"]),
        "suitability": (lambda on: suitability(image_model, *pair, steps=4, progress=on), ["inversion"]),
        "inbetween": (lambda on: inbetween(video_model, *pair, **quick, progress=on), ["dual", "decoding"]),
        "animate": (lambda on: animate(video_model, pair[0], **quick, progress=on), ["animate", "decoding"]),
        "fit_backward_motion": (
            lambda on: fit_backward_motion(video_model, clip[None], steps=1, progress=on),
            ["encoding clips", "backward motion"],
        ),
        "benchmark": (
            lambda on: benchmark("cross-dissolve", "world:0", folder / str(on), frames=1, size=32, progress=on),
            ["benchmark"],
        ),
        "load_clips": (lambda on: load_clips(folder, frames=2, progress=on), ["reading clips"]),
    }


NAMES = "interpolate fit_lora suitability inbetween animate fit_backward_motion benchmark load_clips".split()
NUMBERS = {
    "fit_lora": r"loss=\d\.\d{4}",
    "fit_backward_motion": r"loss=\d+\.\d{4}",
    "benchmark": "cross-dissolve on world:0: ok",
}


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_bar_says_what_is_done_and_silence_is_silence(name, image_model, video_model, pair, tmp_path, capsys):
    frames = torch.from_numpy(np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32))
    save_video(frames, tmp_path / "clip.gif")
    work, bars = runs(image_model, video_model, pair, tmp_path)[name]
    work(True)
    said = capsys.readouterr().err
    for bar in bars:
        total = re.findall(rf"{bar}: 100%.*?(\d+)/(\d+)", said)
        assert total and total[-1][0] == total[-1][1], f"{bar}: {said[-300:]}"
    assert re.search(NUMBERS.get(name, ""), said)
    work(False)
    assert "%|" not in capsys.readouterr().err
