"""The command line: a film for two images, and for each wrong input one sentence, exit code 2, and no waiting."""

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib import (
    cli,
    interpolate,
    interpolate_sequence,
    load_image_model,
    load_pair,
    models,
    save_video,
    suitability,
)
from interp_lib.cli import main
from interp_lib.dreammover import pipeline as dreammover
from interp_lib.dreammover.ddim import SOLVERS
from interp_lib.images import as_images, to_pil
from interp_lib.inbetweening import pipeline as inbetweening
from interp_lib.inbetweening.pipeline import METHODS
from interp_lib.show import film

ROOT = Path(__file__).resolve().parents[1]
CONFORMANCE = ROOT / "tests" / "conformance"
SD, SVD = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
KEYFRAMES = [str(CONFORMANCE / "inbetween" / f"{k}.png") for k in (0, 1)]
CHEAP = ["--model", str(SD), "--steps", "4", "--inversion-steps", "2", "--frames", "1", "--no-lora"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with good and bad inputs, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rng, square = np.random.default_rng(0), (64, 64, 3)
    for name, shape in {"a": square, "b": square, "large": (80, 96, 3), "rgba": (64, 64, 4)}.items():
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(f"{name}.png")
    for clip, count in (("one", 5), ("two", 7)):
        Path("clips", clip).mkdir(parents=True)
        for k in range(count):
            to_pil(torch.rand(3, 64, 64)).save(f"clips/{clip}/{k}.png")
    return tmp_path


AB = ["interpolate", "a.png", "b.png"]
OUT = ["-o", "out.mp4", "--model", str(SD)]
WRONG = {  # what the library itself refuses stands in tests/robustness
    "no command": ([], "Usage"),
    "unknown command": (["morph"], "No such command 'morph'"),
    "missing file": (["interpolate", "a.png", "none.png", *OUT], "none.png does not exist"),
    "identical images": (["interpolate", "a.png", "a.png", *OUT], "identical"),
    "identical neighbours": (["interpolate", "a.png", "b.png", "b.png", *OUT], "image 2 and image 3 are identical"),
    "unknown pair": (["interpolate", "motorbike", *OUT], "neither a folder nor a bundled pair"),
    "frames": ([*AB, *OUT, "--frames", "0"], "--frames"),
    "batch size": ([*AB, *OUT, "--batch-size", "0"], "--batch-size"),
    "size": ([*AB, *OUT, "--size", "64x"], "'64x' is not N or WIDTHxHEIGHT"),
    "seed": ([*AB, *OUT, "--seed", "-1"], "--seed"),
    "inversion": ([*AB, *OUT, "--steps", "5", "--inversion-steps", "9"], "at most 5"),
    "preset": ([*AB, *OUT, "--preset", "fast"], "'paper', 'released'"),
    "dtype": ([*AB, *OUT, "--dtype", "float8"], "'float32', 'float16', 'bfloat16'"),
    "device": ([*AB, *OUT, "--device", "gpu"], "device='gpu' cannot be used"),
    "unknown option": ([*AB, *OUT, "--blur"], "--blur"),
    "no output": (AB, "--output"),
    "no film's name": (["interpolate", "none", "-o", "out.txt"], "a video's name ends in .gif"),
    "output folder in use": (["interpolate", "none", "-o", "clips"], "clips exists: name an empty"),
    "too much memory": ([*AB, *OUT, "--size", "10000000"], "ran out of memory"),
    "method": (["inbetween", "a.png", "b.png", "-o", "out.gif", "--method", "magic"], "--method"),
    "needs deltas": (["inbetween", *KEYFRAMES, "-o", "out.gif", "--model", str(SVD)], "needs backward-motion"),
    "suitability of three": (["suitability", "a.png", "b.png", "large.png"], "3 images were given"),
    "name of deltas": (["fit-backward", "clips", "-o", "deltas.pt"], "end in .safetensors"),
    "no folder for deltas": (["fit-backward", "clips", "-o", "none/d.safetensors"], "none does not exist"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_one_sentence_and_exit_code_2(place, capsys, case):
    arguments, words = WRONG[case]
    before = sorted(place.rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert words in err and "Traceback" not in err and sorted(place.rglob("*")) == before
    assert case == "no command" or (err.startswith("interp_lib: error: ") and err.count("\n") == 1)
    assert not [line for line in out.splitlines() if not line.startswith("note: ")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--frames", "9"], "9 frames at stride 2 need 17"),
        (["--frames", "26"], "the number of frames of a clip=26 is out of range"),
        (["--frames", "3", "--size", "60"], "clips are 60x60 pixels: both sides must be multiples of 64"),
    ],
)
def test_clips_are_judged_before_a_network_is_loaded(monkeypatch, capsys, options, sentence):
    monkeypatch.setattr(models, "load_video_model", None)
    assert main(["fit-backward", "clips", "-o", "d.safetensors", "--model", str(SVD), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_two_images_become_a_film_and_what_was_adapted_is_said(capsys):
    assert main(["interpolate", "large.png", "rgba.png", "-o", "out.gif", *CHEAP]) == 0
    printed = capsys.readouterr().out
    assert iio.imread("out.gif").shape == (3, 80, 96, 3)
    assert "out.gif: 3 frames of 96x80 pixels at 8 fps by DreamMover" in printed and "U-Net calls" in printed
    assert "white" in printed and "fitted to" in printed and "embedded" not in printed


@pytest.mark.parametrize("name", ["out.mp4", "Bilder ü", "~/out.gif"])
def test_every_kind_of_output_under_any_name(place, monkeypatch, capsys, name):
    monkeypatch.setenv("HOME", str(place))
    assert main(["interpolate", "a.png", "b.png", "-o", name, *CHEAP, "--size", "64", "-q"]) == 0
    path = place / name.removeprefix("~/")
    assert capsys.readouterr().out == ""
    if path.is_dir():
        first = np.asarray(Image.open("a.png"))
        assert sorted(p.name for p in path.iterdir()) == ["0000.png", "0001.png", "0002.png"]
        assert np.array_equal(iio.imread(path / "0000.png"), first)  # lossless
    else:
        assert path.stat().st_size > 0


def test_shell_and_python_make_the_same_frames(capsys):
    options = ["--size", "64", *CHEAP, "--batch-size", "1", "-q"]
    assert main(["interpolate", "motorcycle", "-o", "shell.gif", *options]) == 0
    pair, model = load_pair("motorcycle", size=64), load_image_model(SD)
    settings = {"frames": 1, "steps": 4, "inversion_steps": 2, "lora": False, "progress": False}
    save_video(interpolate(model, pair.image0, pair.image1, **settings).frames, "python.gif")
    assert Path("shell.gif").read_bytes() == Path("python.gif").read_bytes()
    names = ["a.png", "b.png", "c.png"]
    Image.open("a.png").rotate(90).save("c.png")
    assert main(["interpolate", *names, "-o", "shell", "--loop", *CHEAP, "-q"]) == 0
    images = [as_images(Image.open(name)) for name in names]
    film = interpolate_sequence(model, images, loop=True, **settings).frames
    assert len(film) == len(list(Path("shell").iterdir())) == 6
    assert all(np.array_equal(iio.imread(f"shell/{k:04d}.png"), np.asarray(to_pil(film[k]))) for k in range(6))
    assert main(["suitability", "motorcycle", "--model", str(SD), "--size", "64", "--steps", "4", "-q"]) == 0
    score = suitability(model, pair.image0, pair.image1, steps=4, progress=False).score
    assert capsys.readouterr().out == f"{score:.2f}\n"


def test_several_keyframes_of_a_video_model_and_which_frames_they_are(capsys):
    options = ["--model", str(SVD), "--method", "trf", "--steps", "1", "--frames", "3", "--size", "64"]
    Image.open(KEYFRAMES[0]).rotate(180).save("third.png")
    assert main(["inbetween", *KEYFRAMES, "third.png", "-o", "out.gif", *options]) == 0
    printed = capsys.readouterr().out
    assert "5 frames" in printed and "frames 0, 2 and 4, counted from 0, the keyframes" in printed


@pytest.mark.parametrize("kind", ["image", "video"])
def test_quick_is_the_librarys_setting_and_what_the_user_gives_wins(kind, monkeypatch, capsys):
    used = {}
    quick = dreammover.QUICK if kind == "image" else inbetweening.QUICK

    def make_film(model, images, path, **settings):
        used.update(settings)
        raise ValueError("enough is known")

    monkeypatch.setattr(film, "make_film", make_film)
    command = ["interpolate", "--model", str(SD)] if kind == "image" else ["inbetween", "--model", str(SVD)]
    command += [*KEYFRAMES, "-o", "out.gif"]
    assert main([*command, "--quick"]) == 2 and used.items() >= quick.items()
    assert "--quick means" not in capsys.readouterr().out
    assert main([*command, "--quick", "--steps", "30"]) == 2 and used.items() >= (quick | {"steps": 30}).items()
    assert f"--quick means steps={quick['steps']}, but steps=30 was given" in capsys.readouterr().out


def test_the_score_is_a_number_without_a_verdict(capsys):
    assert main(["suitability", "a.png", "b.png", "--model", str(SD), "--size", "64", "--steps", "4"]) == 0
    printed = capsys.readouterr().out
    assert "suitability 0." in printed and "share of the positions that come back" in printed
    assert not any(word in printed for word in ("fail", "unusual", "against", "warning"))


def test_deltas_are_fitted_on_a_folder_and_used(capsys):
    how = ["--frames", "3", "--steps", "2", "--size", "64", "--lr", "0.01", "--model", str(SVD), "--device", "cpu"]
    assert main(["fit-backward", "clips", "-o", "deltas.safetensors", *how]) == 0
    assert "2 clips, 2 steps, loss" in capsys.readouterr().out
    how = ["--steps", "1", "--recurrence", "1", "--frames", "3", "--reverse", "deltas.safetensors", "--model", str(SVD)]
    assert main(["inbetween", *KEYFRAMES, "-o", "out.mp4", *how, "--size", "64"]) == 0
    assert "out.mp4: 3 frames of 64x64 pixels at 7 fps" in capsys.readouterr().out


def test_the_embedded_model_says_what_it_was_trained_on():
    command = [sys.executable, "-m", "interp_lib", "interpolate", "a.png", "b.png", "-o", "out.gif", "--size", "64"]
    command += ["--steps", "2", "--inversion-steps", "1", "--frames", "1", "--no-lora"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "trained on" in done.stdout.splitlines()[-1]
    assert "%|" in done.stderr and "stable-diffusion-v1-5" in done.stdout.splitlines()[-1]
    silent = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **silent) as process:
        process.stdout.close()  # a reader that goes away early
        assert process.wait() == 0 and Path("out.gif").is_file()


def test_listings_version_and_help(capsys):
    assert main(["pairs"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("motorcycle", "world", "bunny", "carphone"))
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("interp_lib ")
    for command in cli.app.registered_commands:
        assert main([command.name, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out or command.name in ("pairs", "app")
    assert set(get_args(get_type_hints(cli.inbetween_command)["method"])) == set(METHODS)
    assert set(get_args(get_args(get_type_hints(cli.interpolate_command)["solver"])[0])) == set(SOLVERS)


def test_help_imports_nothing_heavy_and_the_shell_completes():
    code = "import sys; from interp_lib.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment).returncode == 0
    code = "import sys; from interp_lib.cli import main; main([])"
    asked = {"_INTERP_LIB_COMPLETE": "complete_bash", "COMP_WORDS": "interp_lib in", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | asked)
    assert set(done.stdout.split()) == {"interpolate", "inbetween"}, done.stderr
