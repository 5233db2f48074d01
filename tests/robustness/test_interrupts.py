"""Ctrl-C, from the terminal and hence for every process of the group: one line, no traceback, exit code 130, and what
was done is kept."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
SD, SVD = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
TABLE = ["--methods", "latent slerp", "--cases", "world-bench:60", "--model", str(SD), "--size", "64"]
TINY = ["--scenes", "64", "--vae-steps", "100000", "--vae-batch", "4", "--device", "cpu", "--model", "image"]
KEEPS = "finished items are kept, run it again to go on"
PROGRAMS = {  # arguments, what shows that it is at work (nothing: the first progress bar), what it says
    "interpolate": (
        ["interp_lib", "interpolate", "motorcycle", "-o", "o.mp4", "--model", str(SD), "--frames", "400"],
        "",
        "interp_lib: interrupted, no film was written",
    ),
    "inbetween": (
        [
            "interp_lib",
            "inbetween",
            "motorcycle",
            "-o",
            "o.gif",
            "--model",
            str(SVD),
            "--steps",
            "900",
            "--method",
            "trf",
        ],
        "",
        "interp_lib: interrupted, no film was written",
    ),
    "fit-backward": (
        ["interp_lib", "fit-backward", "clips", "-o", "o.safetensors", "--model", str(SVD), "--frames", "2"],
        "o.checkpoint",
        "interp_lib: interrupted, the same command goes on from o.checkpoint",
    ),
    "train": (
        ["experiments.train", "--stage", "vae", *TINY, "--work", "work", "--out", "out"],
        "work/vae.jsonl",
        "experiments.train: interrupted; finished stages and states are kept, run it again to go on",
    ),
    "tables": (
        ["experiments.studies.tables", "interpolation", *TABLE, "--workers", "2", "--out", "out"],
        "out/*/items/*",
        f"interrupted; {KEEPS}",
    ),
    "results": (
        ["experiments.studies", "fusion", "--model", str(SD), "--workers", "2"],
        "build/results/fusion-*/*.json",
        f"interrupted; {KEEPS}",
    ),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a folder of clips, for the programs to work in."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for clip in ("a", "b"):
        (tmp_path / "clips" / clip).mkdir(parents=True)
        for k in range(4):
            iio.imwrite(tmp_path / "clips" / clip / f"{k}.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return tmp_path


def hear() -> None:
    """A test that itself runs in the background would pass on that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(place: Path, arguments: list[str]) -> subprocess.Popen:
    here = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    how = {"cwd": place, "env": here, "start_new_session": True, "preexec_fn": hear}
    with open(place / "said", "w") as said:
        return subprocess.Popen([sys.executable, "-m", *arguments], stdout=said, stderr=said, **how)


def at_work(place: Path, process: subprocess.Popen, trace: str) -> None:
    until = time.monotonic() + 1800
    while process.poll() is None and not (any(place.glob(trace)) if trace else "%|" in (place / "said").read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)


def interrupt(place: Path, arguments: list[str], trace: str) -> tuple[int, str]:
    """Exit code and what was said after Ctrl-C on a program at work."""
    process = begin(place, arguments)
    try:
        at_work(place, process, trace)
        before = (place / "said").read_text()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(600)
        return process.returncode, (place / "said").read_text().removeprefix(before)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(PROGRAMS)[1:]]  # imports, in several processes


@pytest.mark.long
@pytest.mark.parametrize("name", ["interpolate", *SLOW])
def test_ctrl_c_is_one_line(name, place):
    arguments, trace, sentence = PROGRAMS[name]
    code, said = interrupt(place, arguments, trace)
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    assert (code, lines) == (130, [sentence])
    kept = {path for path in place.glob(trace)} if trace else set()
    assert all(path.stat().st_size for path in kept) and bool(kept) == bool(trace)
    assert not list(place.glob("o.mp4")) and not list(place.rglob(".*.tmp*"))


HEAD = """
from interp_lib import interrupt
interrupt.expect_interrupt("stopped; all is well")
import os, signal
os.kill(os.getpid(), signal.SIGINT) if "{signal}" else 1 / 0
"""


def test_ctrl_c_while_importing():
    def run(signal: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", HEAD.format(signal=signal)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=hear)

    stopped, failed = run("SIGINT"), run("")
    assert (stopped.returncode, stopped.stderr) == (130, "stopped; all is well\n")
    assert failed.returncode == 1 and "ZeroDivisionError" in failed.stderr
