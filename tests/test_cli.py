"""The command line: a video for two images, and for each wrong input one sentence, exit code 2, and no waiting."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib import interpolate, load_image_model, load_pair, save_video
from interp_lib.cli import main

TINY = Path(__file__).parent / "conformance" / "dreammover" / "tiny_sd"
QUICK = ["--steps", "4", "--inversion-steps", "2", "--frames", "1", "--no-lora"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with good and bad inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)

    def save(name, shape, dtype=np.uint8):
        Image.fromarray(rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)).save(folder / name)

    for name in ("a.png", "b.png"):
        save(name, (64, 64, 3))
    shutil.copy(folder / "a.png", folder / "same.png")
    save("larger.png", (80, 96, 3))
    save("pixel.png", (1, 1, 3))
    save("rgba.png", (64, 64, 4))
    save("grey.png", (64, 64))
    save("deep.png", (64, 64), np.uint16)
    (folder / "text.png").write_text("not an image")
    (folder / "empty").mkdir()
    (folder / "nomodel").mkdir()
    shutil.copytree(TINY, folder / "pickled")
    for weights in list((folder / "pickled").rglob("*.safetensors")):
        torch.save({"weight": torch.zeros(1)}, weights.with_suffix(".bin"))
        weights.unlink()
    return folder


def command(files, *inputs, out="out.mp4", extra=()):
    paths = [str(files / name) if (files / name).exists() or "." in name else name for name in inputs]
    return ["interpolate", *paths, "-o", str(files / out), *extra]


WRONG = {
    "missing file": (["a.png", "none.png"], {}, "none.png does not exist"),
    "not an image": (["a.png", "text.png"], {}, "text.png is not an image"),
    "different sizes": (["a.png", "larger.png"], {}, "larger.png is 96x80 pixels but"),
    "one pixel": (["a.png", "pixel.png"], {}, "pixel.png is 1x1 pixels"),
    "identical images": (["a.png", "same.png"], {}, "identical"),
    "one image": (["a.png"], {}, "needs two images"),
    "three images": (["a.png", "b.png", "grey.png"], {}, "3 inputs"),
    "empty folder": (["empty"], {}, "holds 0 image"),
    "unknown pair": (["motorbike"], {}, "neither a folder nor a bundled pair"),
    "frames=0": (["a.png", "b.png"], {"extra": ["--frames", "0"]}, "--frames"),
    "frames=-1": (["a.png", "b.png"], {"extra": ["--frames", "-1"]}, "--frames"),
    "frames=many": (["a.png", "b.png"], {"extra": ["--frames", "many"]}, "--frames"),
    "batch_size=0": (["a.png", "b.png"], {"extra": ["--batch-size", "0"]}, "--batch-size"),
    "fps=0": (["a.png", "b.png"], {"extra": ["--fps", "0"]}, "--fps"),
    "size": (["a.png", "b.png"], {"extra": ["--size", "4"]}, "--size"),
    "inversion_steps > steps": (
        ["a.png", "b.png"],
        {"extra": ["--steps", "10", "--inversion-steps", "20"]},
        "--inversion-steps 20",
    ),
    "unknown preset": (["a.png", "b.png"], {"extra": ["--preset", "fast"]}, "'paper', 'released'|paper, released"),
    "unknown flow": (["a.png", "b.png"], {"extra": ["--flow", "magic"]}, "--flow"),
    "unknown option": (["a.png", "b.png"], {"extra": ["--frame-count", "3"]}, "--frame-count"),
    "no video name": (["a.png", "b.png"], {"out": "out.txt"}, "let it end in .mp4"),
    "no output folder": (["a.png", "b.png"], {"out": "nowhere/out.mp4"}, "nowhere does not exist"),
    "output is a folder": (["a.png", "b.png"], {"out": "folder.mp4"}, "cannot be written"),
    "a folder that is no model": (["a.png", "b.png"], {"extra": ["--model", "{files}/nomodel"]}, "nomodel"),
    "only pickled weights": (["a.png", "b.png"], {"extra": ["--model", "{files}/pickled"]}, "safetensors"),
}


def check_refused(code, out, err, words):
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and err.endswith("\n") and "error: " in err and "Traceback" not in err
    assert any(option in err for option in words.split("|"))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_one_sentence_and_exit_code_2(files, capsys, case):
    (files / "folder.mp4").mkdir(exist_ok=True)
    inputs, options, words = WRONG[case]
    extra = [text.format(files=files) for text in options.get("extra", [])]
    start = time.perf_counter()
    code = main(command(files, *inputs, out=options.get("out", "out.mp4"), extra=extra))
    seconds = time.perf_counter() - start
    captured = capsys.readouterr()
    check_refused(code, captured.out, captured.err, words)
    assert seconds < 10 and not (files / "out.mp4").exists()  # a model takes longer to load than any check


@pytest.mark.long
@pytest.mark.parametrize("case", ["frames=0", "missing file"])
def test_the_same_in_a_process_of_its_own(files, case):
    inputs, options, words = WRONG[case]
    argv = command(files, *inputs, extra=options.get("extra", ()))
    done = subprocess.run([sys.executable, "-m", "interp_lib", *argv], capture_output=True, text=True, timeout=60)
    check_refused(done.returncode, done.stdout, done.stderr, words)


@pytest.mark.parametrize("problem", ["frames=0", "missing file", "no video name"])
def test_cheap_checks_come_before_the_model(files, capsys, problem):
    inputs, options, words = WRONG[problem]
    argv = command(files, *inputs, out=options.get("out", "out.mp4"), extra=options.get("extra", ()))
    assert main([*argv, "--model", str(files / "nomodel")]) == 2
    err = capsys.readouterr().err
    assert words in err and "nomodel" not in err


@pytest.mark.parametrize(
    ("second", "word"), [("b.png", None), ("rgba.png", "white"), ("deep.png", "16-bit"), ("grey.png", "grey")]
)
def test_images_of_every_kind_become_a_video_and_it_is_said(files, tmp_path, capsys, second, word):
    out = tmp_path / "out.gif"
    argv = ["interpolate", str(files / "a.png"), str(files / second), "-o", str(out), "--model", str(TINY), *QUICK]
    assert main([*argv, "--size", "64", "--prompt", "noise"]) == 0
    printed = capsys.readouterr().out
    assert iio.imread(out).shape == (3, 64, 64, 3)
    assert (
        f"{out}: 3 frames (1 between) of 64x64 pixels" in printed
        and "U-Net calls" in printed
        and 'prompt: "noise"' in printed
    )
    assert word is None or word in printed


def test_too_little_memory_is_one_sentence(files, capsys):
    code = main(command(files, "a.png", "b.png", extra=["--size", "10000000"]))  # more than any machine can address
    check_refused(code, *capsys.readouterr(), "ran out of memory")


def test_shell_and_python_make_the_same_frames(tmp_path):
    argv = ["interpolate", "motorcycle", "-o", str(tmp_path / "shell.gif"), "--model", str(TINY), "--size", "64"]
    assert main([*argv, *QUICK, "--quiet"]) == 0
    pair = load_pair("motorcycle", size=64)
    options = {"frames": 1, "steps": 4, "inversion_steps": 2, "lora": False, "progress": False}
    result = interpolate(load_image_model(TINY), pair.image0, pair.image1, **options)
    assert pair.caption  # the shell does not use it unasked
    python = save_video(result.frames, tmp_path / "python.gif")
    assert python.path.read_bytes() == (tmp_path / "shell.gif").read_bytes()


def test_a_bundled_pair_and_a_quiet_run(tmp_path, capsys):
    out = tmp_path / "out.mp4"
    argv = ["interpolate", "motorcycle", "-o", str(out), "--model", str(TINY), "--size", "96x64", *QUICK]
    assert main([*argv, "--quiet", "--seed", "1", "--batch-size", "1", "--no-attention", "--no-two-level"]) == 0
    assert capsys.readouterr().out == "" and iio.imread(out).shape == (3, 64, 96, 3)


def test_the_size_defaults_to_the_model_and_keeps_the_aspect(tmp_path, capsys):
    out = tmp_path / "out.gif"
    assert main(["interpolate", "motorcycle", "-o", str(out), "--model", str(TINY), *QUICK]) == 0
    _, height, width, _ = iio.imread(out).shape
    assert height % 8 == width % 8 == 0 and abs(width / height - 1.482) < 0.2
    printed = capsys.readouterr().out
    assert "resized from 741x500" in printed and "prompt: " not in printed


def test_pairs_are_listed(capsys):
    assert main(["pairs"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("motorcycle", "world", "bunny", "carphone"))


def test_help_explains_itself(capsys):
    assert main(["interpolate", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--frames", "--preset", "--no-lora", "--size", "--seed"))
