"""`kill -9` in the middle of writing leaves whole files; Ctrl-C is one line, and what was done is kept."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from experiments.train import loop
from interp_lib import benchmark, load_image_model, save_figure, save_video
from interp_lib.bench.tables import write_results
from interp_lib.dreammover.lora import fit_lora
from interp_lib.inbetweening.backward import BackwardMotion
from tests.robustness.harness import ROOT, SD, SVD, keyframe, listing

frames = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def killed_at_rename(work, count=1):
    """Run in a process of its own, which is killed at its count-th rename with half of the file written."""
    if (child := os.fork()) == 0:
        left, rename = count, os.replace

        def replace(source, target):
            nonlocal left
            left -= 1
            if left:
                return rename(source, target)
            if os.path.isfile(source):
                os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace
        try:
            work()
        finally:
            os._exit(1)  # it never came to that rename
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@functools.cache
def fitted_lora():
    """A LoRA on a model of its own, fitted before any fork: autograd does not work in a forked process."""
    return fit_lora(load_image_model(SD), keyframe(0), steps=1, rank=2, progress=False)


WRITERS = {
    **dict.fromkeys(("a.gif", "a.webp", "a.mp4"), functools.partial(save_video, frames)),
    "a.png": lambda path: save_figure(Figure(figsize=(1, 1)), "a", alt="Nothing."),
    "lora.safetensors": lambda path: fitted_lora().save(path),
    "deltas.safetensors": lambda path: BackwardMotion({"w": torch.ones(99)}).save(path),
    "state.pt": lambda path: loop.save({"step": torch.ones(99)}, path),
    "table.json": lambda path: write_results(path, {"about": "x"}, [{"a": 1}]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_while_writing_leaves_the_old_file_and_the_next_run_cleans_up(name, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_FIGURES", str(tmp_path))
    path, write = tmp_path / name, WRITERS[name]
    write(path)
    path.write_text("old")
    killed_at_rename(lambda: write(path))
    assert path.read_text() == "old" and len(os.listdir(tmp_path)) == 2
    write(path)
    assert path.read_bytes() != b"old" and os.listdir(tmp_path) == [name]


def test_a_kill_while_a_folder_of_frames_is_written_leaves_no_folder(tmp_path):
    killed_at_rename(lambda: save_video(frames, tmp_path / "film"))
    assert not (tmp_path / "film").exists()
    save_video(frames, tmp_path / "film")
    assert len(os.listdir(tmp_path / "film")) == 4


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_killed_sweep_goes_on_where_it_was_and_gives_the_same_table(tmp_path, count):
    def sweep(folder):
        methods = ["truth", "cross-dissolve", "shuffled"]
        return benchmark(methods, "world-bench:3", tmp_path / folder, frames=3, size=32, workers=1, progress=False)

    killed_at_rename(lambda: sweep("killed"), count)
    items = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "items").glob("[!.]*")}
    assert items or count == 1
    resumed, whole = sweep("killed"), sweep("whole")
    assert resumed.drop(columns="seconds").equals(whole.drop(columns="seconds"))
    assert all(path.stat().st_mtime_ns == written for path, written in items.items())
    killed, unbroken = listing(tmp_path / "killed"), listing(tmp_path / "whole")
    assert {name.replace("/killed", "/whole") for name in killed} == set(unbroken)


FILM = "interp_lib: interrupted, no film was written"
KEEPS = "interrupted; finished items are kept, run it again to go on"
TRAIN = "--stage vae --model image --device cpu --scenes 64 --vae-steps 100000 --vae-batch 4 --work work --out out"
TABLE = f"interpolation --cases world-bench:60 --model {SD} --size 64 --workers 2 --out out --methods"
PROGRAMS = {  # arguments, what shows that it is at work (nothing: the first progress bar), what it says
    "interpolate": (f"interp_lib interpolate motorcycle -o o.mp4 --model {SD} --frames 400", "", FILM),
    "inbetween": (f"interp_lib inbetween motorcycle -o o.gif --model {SVD} --steps 900 --method trf", "", FILM),
    "fit-backward": (
        f"interp_lib fit-backward clips -o o.safetensors --model {SVD} --frames 2",
        "o.checkpoint",
        "interp_lib: interrupted, the same command goes on from o.checkpoint",
    ),
    "train": (
        f"experiments.train {TRAIN}",
        "work/vae.jsonl",
        "interrupted; finished stages and states are kept, run it again to go on",
    ),
    "tables": (f"experiments.studies.tables {TABLE}", "out/*/items/*", KEEPS),
    "results": (f"experiments.studies fusion --model {SD} --workers 2", "build/results/fusion-*/*.json", KEEPS),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(PROGRAMS)[1:]]  # imports, in several processes


@pytest.mark.long
@pytest.mark.parametrize("name", ["interpolate", *SLOW])
def test_ctrl_c_is_one_line(name, tmp_path):
    """From the terminal, and hence for every process of the group."""
    for k in range(8):
        (tmp_path / "clips" / str(k // 4)).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "clips" / str(k // 4) / f"{k}.png")
    command, trace, sentence = PROGRAMS[name]
    command = [sys.executable, "-m", *command.split(), *(["latent slerp"] if name == "tables" else [])]
    here = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    hear = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background job would ignore Ctrl-C
    with open(log, "w") as file:
        how = {"cwd": tmp_path, "env": here, "start_new_session": True, "preexec_fn": hear}
        process = subprocess.Popen(command, stdout=file, stderr=file, **how)
    try:
        until = time.monotonic() + 1800
        while process.poll() is None and not (any(tmp_path.glob(trace)) if trace else "%|" in log.read_text()):
            assert time.monotonic() < until
            time.sleep(0.02)
        before = log.read_text()
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    lines = log.read_text().removeprefix(before).replace("\r", "\n").splitlines()
    assert (code, [line for line in lines if line.strip() and "%|" not in line]) == (130, [sentence])
    done = list(tmp_path.glob(trace)) if trace else []
    assert all(path.stat().st_size for path in done) and bool(done) == bool(trace)
    assert not list(tmp_path.glob("o.mp4")) and not list(tmp_path.rglob(".*.tmp*"))
