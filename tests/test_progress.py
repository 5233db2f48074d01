"""Bars: whatever takes more than two seconds shows one with a number that helps, and silence is silence."""

import re
from pathlib import Path
from types import SimpleNamespace

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


BARE, QUICK = {"frames": 1, "steps": 4, "inversion_steps": 2, "lora": False}, {"frames": 2, "steps": 2}
RUNS = {  # name -> what runs, with or without bars; the bars that it must show; what else they say
    "interpolate": (lambda g, **on: interpolate(g.image, *g.pair, **BARE, **on), "decoding", ""),
    "fit_lora": (lambda g, **on: fit_lora(g.image, g.clip[:2], steps=2, **on).remove(), "LoRA", r"loss=\d\.\d{4}"),
    "suitability": (lambda g, **on: suitability(g.image, *g.pair, steps=4, **on), "features", ""),
    "inbetween": (lambda g, **on: inbetween(g.video, *g.pair, **QUICK, **on), "decoding", ""),
    "animate": (lambda g, **on: animate(g.video, g.pair[0], **QUICK, **on), "decoding", ""),
    "fit_backward_motion": (
        lambda g, **on: fit_backward_motion(g.video, g.clip[None], steps=1, **on),
        "clips motion",
        r"loss=\d+\.\d{4}",
    ),
    "benchmark": (
        lambda g, **on: benchmark("cross-dissolve", "world:0", f"out {on}", frames=1, size=32, **on),
        "benchmark",
        "cross-dissolve on world:0: ok",
    ),
    "load_clips": (lambda g, **on: load_clips(".", frames=2, **on), "clips", ""),
}


@pytest.fixture(scope="module")
def given():
    """Models, a pair and a clip of 64x64 pixels."""
    folder, clip = CONFORMANCE / "inbetween", torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(
        image=load_image_model(CONFORMANCE / "dreammover" / "tiny_sd", device="cpu"),
        video=load_video_model(folder / "tiny_svd", device="cpu", reverse=folder / "deltas.safetensors"),
        pair=clip[:2].split(1),
        clip=clip,
    )


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_a_bar_says_what_is_done_and_silence_is_silence(name, given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_video(given.clip, "clip.gif")
    work, bars, number = RUNS[name]
    work(given, progress=True)
    said = capsys.readouterr().err
    for bar in bars.split():
        assert re.search(rf"{bar}: 100%", said), said[-300:]
    assert said.count("\n") == len(bars.split())  # a bar is one line, whatever its stages
    assert re.search(number, said)
    work(given, progress=False)
    assert "%|" not in capsys.readouterr().err
