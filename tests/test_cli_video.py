"""The commands of the video half, run as a user runs them, on the tiny random pipeline of the conformance folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from interp_lib.cli import main
from interp_lib.images import to_pil
from interp_lib.models import load_video

FOLDER = Path(__file__).parent / "conformance" / "inbetween"
TINY = ["--model", str(FOLDER / "tiny_svd"), "--device", "cpu"]


def _clip(folder: Path, count: int) -> Path:
    generator = torch.Generator().manual_seed(count)
    folder.mkdir(parents=True)
    for k in range(count):
        to_pil(torch.rand(3, 64, 64, generator=generator)).save(folder / f"{k}.png")
    return folder


def test_two_images_become_a_video_and_what_was_done_is_said(tmp_path, capsys):
    out = tmp_path / "out.gif"
    images = [str(FOLDER / f"{k}.png") for k in (0, 1)]
    how = ["--method", "trf", "--steps", "2", "--recurrence", "1", "--frames", "5"]
    assert main(["inbetween", *images, "-o", str(out), *how, *TINY, "--size", "64"]) == 0
    said = capsys.readouterr().out
    assert out.stat().st_size > 0 and "5 frames of 64x64 pixels at 7 fps, 3 U-Net calls" in said


def test_deltas_are_fitted_on_a_folder_and_used(tmp_path, capsys):
    _clip(tmp_path / "clips" / "a", 5), _clip(tmp_path / "clips" / "b", 7)
    deltas = tmp_path / "deltas.safetensors"
    how = ["--frames", "3", "--stride", "2", "--steps", "2", "--size", "64", "--lr", "0.01"]
    assert main(["fit-backward", str(tmp_path / "clips"), "-o", str(deltas), *how, *TINY]) == 0
    assert "2 clips, 2 steps, loss" in capsys.readouterr().out
    images = [str(FOLDER / f"{k}.png") for k in (0, 1)]
    how = ["--steps", "1", "--frames", "3", "--reverse", str(deltas), "-q"]
    assert main(["inbetween", *images, "-o", str(tmp_path / "out.mp4"), *how, *TINY]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["inbetween", "a.png", "b.png", "-o", "out.txt"], "is no video name"),
        (["inbetween", "a.png", "b.png", "-o", "out.gif"], "a.png does not exist"),
        (["inbetween", "a.png", "b.png", "-o", "out.gif", "--method", "magic"], "invalid choice"),
        (["inbetween", "world:1", "-o", "out.gif", "--model", str(FOLDER / "tiny_svd")], "needs backward-motion"),
        (["inbetween", "world:1", "-o", "out.gif", "--reverse", "no.safetensors", *TINY], "no.safetensors do not"),
        (["fit-backward", "none", "-o", "deltas.pt"], "end in .safetensors"),
        (["fit-backward", "none", "-o", "deltas.safetensors", *TINY], "none is no folder"),
    ],
)
def test_a_wrong_input_is_answered_with_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    said = capsys.readouterr().err.strip()
    assert code == 2 and sentence in said and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--frames", "9"], "9 frames at stride 2 need 17"),
        (["--frames", "26"], "the number of frames of a clip=26 is out of range"),
        (["--frames", "3", "--size", "60"], "clips are 60x60 pixels: both sides must be multiples of 64"),
    ],
)
def test_clips_are_judged_before_a_network_is_loaded(tmp_path, monkeypatch, capsys, options, sentence):
    def load_part(*given):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(load_video, "load_part", load_part)
    _clip(tmp_path / "clips" / "a", 5)
    arguments = ["fit-backward", str(tmp_path / "clips"), "-o", str(tmp_path / "d.safetensors"), *options, *TINY]
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_configuration_that_does_not_say_its_sizes(tmp_path):
    shutil.copytree(FOLDER / "tiny_svd", tmp_path / "model")
    path = tmp_path / "model" / "vae" / "config.json"
    config = json.loads(path.read_text())
    del config["block_out_channels"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not say what it was made for"):
        load_video.video_format(tmp_path / "model")
