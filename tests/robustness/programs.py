"""What is killed: each works in the current folder, resumes there, and ends with the same files whatever happened."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import torch
from PIL import Image

from experiments import studies
from experiments.studies import frequency
from experiments.train import __main__ as training
from experiments.train import loop
from interp_lib import fit_backward_motion, fit_lora, load_image_model, load_video_model, save_figure, save_video
from interp_lib.bench.benchmark import benchmark
from interp_lib.images import open_image
from interp_lib.inbetweening.backward import BackwardMotion

ROOT = Path(__file__).resolve().parents[2]
SD = ROOT / "tests" / "conformance" / "dreammover"
SVD = ROOT / "tests" / "conformance" / "inbetween"
DRAWS = """
import torch
from interp_lib import save_figure, save_video
from interp_lib.show import contact_sheet, figure_path

frames = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
"""
MADE = ("00_quickstart", "04_latent_fusion", "07_dual_sampling")  # notebooks, with the figures the Makefile promises
PROMISES = dict(re.findall(r"^FIGURES_(\w+) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
NOTEBOOKS = {name: PROMISES[name].split() for name in MADE}


def one_notebook() -> None:
    make_figures(1)


def three_notebooks() -> None:
    make_figures(3)


def make_figures(count: int) -> None:
    """`make figures`, by this Makefile and this library, on small notebooks."""
    if not Path("notebooks").exists():
        shutil.copy(ROOT / "Makefile", "Makefile")
        Path("making").mkdir(exist_ok=True)
        for number, (name, figures) in enumerate(list(NOTEBOOKS.items())[:count]):
            _write_notebook(Path("making", f"{name}.ipynb"), number, figures)
            _write_old(name, figures)
        shutil.copy(ROOT / "notebooks" / "run.py", "making")
        os.rename("making", "notebooks")
    os.execvp("make", ["make", "-s", "figures", f"PY={sys.executable}", "JOBS=2"])


def _write_notebook(path: Path, number: int, figures: list[str]) -> None:
    code = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [code(f"seed = {number}", metadata={"tags": ["parameters"]}), code(DRAWS)]
    for figure in figures:
        stem = Path(figure).stem
        draw = f"save_figure(contact_sheet({{'noise': frames}}), {stem!r}, alt='Noise.')"
        film = f"save_video(frames, figure_path({figure!r}), alt='Noise.')"
        notebook.cells.append(code(film if figure.endswith(".gif") else draw))
    for k, cell in enumerate(notebook.cells):
        cell.id = f"cell-{k}"
    nbformat.write(notebook, path)


def _write_old(name: str, figures: list[str]) -> None:
    """What an older notebook of that name has left: none of it may be taken for what this one makes."""
    for folder in ("build", "figures"):
        Path(folder).mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(), Path("build", f"{name}.ipynb"))
    Path("build", f"{name}.stamp").write_text("old\n")
    for figure in figures:
        Image.new("RGB", (1, 1)).save(Path("figures", figure))


def lora() -> None:
    """Two LoRAs on one pair, the second only where it is not there yet."""
    model = load_image_model(SD / "tiny_sd", device="cpu")
    images = torch.cat([open_image(SD / f"{k}.png")[0] for k in (0, 1)])[..., :64, :64]
    for seed in range(2):
        path = Path(f"lora{seed}.safetensors")
        if not path.exists():
            with fit_lora(model, images, seed=seed, rank=4, steps=15, progress=False) as fitted:
                fitted.save(path)


def backward_motion() -> None:
    model = load_video_model(SVD / "tiny_svd", device="cpu", reverse=None)
    images = [open_image(SVD / f"{k}.png")[0] for k in (0, 1)]
    clips = torch.stack([torch.cat([image, image.roll(8, -1)]) for image in images])
    how = {"lr": 1e-2, "save_every": 1, "progress": False, "checkpoint": "deltas.checkpoint"}
    fit_backward_motion(model, clips, steps=12, **how).save("deltas.safetensors")


def train() -> None:
    """Every stage of the image model but its card, in few steps, its state written at each."""
    torch.set_num_threads(1)
    loop.LOG_EVERY = 4
    loop.fit.__kwdefaults__["save_every"] = 0.0
    size = ["--scenes", "64", "--vae-steps", "10", "--vae-batch", "4", "--unet-steps", "5", "--unet-batch", "1"]
    where = ["--work", "work", "--out", "models", "--device", "cpu"]
    training.main(["--model", "image", "--stage", "unet", *where, *size])


def bench() -> None:
    benchmark(["truth", "cross-dissolve", "shuffled"], "world-bench:3", "out", frames=3, workers=1, progress=False)


def networks_by_two() -> None:
    """Two worker processes, each with a model."""
    networks(workers=2)


def networks(workers: int = 1) -> None:
    how = {"model": str(SD / "tiny_sd"), "settings": {"steps": 6, "inversion_steps": 2}, "size": 32, "frames": 3}
    benchmark(["latent slerp", "direct fusion"], "world-bench:3", "out", workers=workers, progress=False, **how)


def study() -> None:
    """The first items of a study, by two worker processes."""
    frequency.ITEMS = frequency.ITEMS[:2]
    studies.compute("frequency", "embedded", out=Path("tables"), work=Path("work"), workers=2)


def save() -> None:
    """Files of every kind that users get."""
    generator = torch.Generator().manual_seed(0)
    model = load_image_model(SD / "tiny_sd", device="cpu")
    images = torch.rand(2, 3, 64, 64, generator=generator)
    deltas = {f"layer{k}": torch.rand(64, 64, generator=generator) for k in range(20)}
    os.environ["INTERP_FIGURES"] = "figures"
    with fit_lora(model, images, steps=1, rank=2, progress=False) as fitted:
        for k in range(6):
            save_video(torch.rand(4, 3, 32, 32, generator=generator), f"{k}{('.gif', '.webp', '.mp4')[k % 3]}")
            save_figure(_drawing(k), f"drawing{k}", alt="A number.")
            fitted.save(f"lora{k}.safetensors")
            BackwardMotion(deltas).save(f"deltas{k}.safetensors")


def _drawing(number: int):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, str(number))
    return figure
