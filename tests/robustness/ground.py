"""What the tables of wrong inputs stand on: good and bad files, and the tiny random models of the conformance tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import nbformat
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interp_lib import load_image_model, load_video_model
from interp_lib.images import open_image

CONFORMANCE = Path(__file__).parents[1] / "conformance"
SD, SVD = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
PARAMETERS = 'pair = "motorcycle"  # any\ncount = 2  # 1 to 9\nrate = 0.5\nfast = True'
DELTAS = CONFORMANCE / "inbetween" / "deltas.safetensors"


@cache
def image_model() -> Any:
    return load_image_model(SD, device="cpu")


@cache
def video_model() -> Any:
    return load_video_model(SVD, device="cpu", reverse=DELTAS)


@cache
def pair() -> Tensor:
    """[2,3,64,64] in [0,1]"""
    return torch.cat([open_image(CONFORMANCE / "inbetween" / f"{k}.png")[0] for k in (0, 1)])


@dataclass
class Ground:
    """files: inputs that no row changes. out: an empty folder of the row's own."""

    files: Path
    out: Path

    @property
    def image(self) -> Any:
        return image_model()

    @property
    def video(self) -> Any:
        return video_model()

    @property
    def first(self) -> Tensor:
        return pair()[:1]

    @property
    def last(self) -> Tensor:
        return pair()[1:]

    def networks(self) -> list[Any]:
        return [image_model().unet, image_model().vae, video_model().unet, video_model().vae]


def copy_model(source: Path, target: Path) -> Path:
    """A copy of a model folder that may be spoilt."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def write_video(path: Path, frames: int) -> Path:
    pixels = np.random.default_rng(frames).integers(0, 255, (frames, 32, 48, 3), dtype=np.uint8)
    imageio.mimwrite(path, list(pixels), fps=8, macro_block_size=1)
    return path


def make_files(folder: Path) -> Path:
    """Good inputs (a.png, b.png, clip.mp4) and everything that can be wrong with a picture or a video."""
    rng = np.random.default_rng(0)

    def save(name: str, *shape: int) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
        return folder / name

    a, _, jpeg = save("a.png", 64, 64, 3), save("b.png", 64, 64, 3), save("whole.jpg", 64, 64, 3)
    shutil.copy(a, folder / "same.png")
    save("larger.png", 80, 96, 3), save("pixel.png", 1, 1, 3), save("flat.png", 4, 20, 3)
    (folder / "cut.png").write_bytes(a.read_bytes()[:6000])
    (folder / "cut.jpg").write_bytes(jpeg.read_bytes()[:900])
    (folder / "text.png").write_text("not an image"), (folder / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((12, 20), np.nan, np.float32)).save(folder / "nan.tif")
    Image.fromarray(np.full((12, 20), 7.0, np.float32)).save(folder / "range.tif")
    Image.new("1", (10000, 10000)).save(folder / "bomb.png")
    (folder / "loop.png").symlink_to(folder / "loop.png"), (folder / "loop").symlink_to(folder / "loop")
    whole = write_video(folder / "clip.mp4", 12).read_bytes()
    for name in ("empty", "cut", "named", "single", "bare", "mixed", "listed"):
        (folder / name).mkdir()
    (folder / "listed" / "clip.mp4").write_bytes(whole)
    (folder / "listed" / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (folder / "cut" / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "named" / "text.mp4").write_text("not a video")
    write_video(folder / "single" / "one.mp4", 1), (folder / "bare" / "none.mp4").write_bytes(b"")
    save("mixed/x/0.png", 32, 32, 3), save("mixed/x/1.png", 40, 40, 3)
    save("gap/JPEGImages/480p/bear/00000.jpg", 32, 32, 3), save("gap/JPEGImages/480p/bear/00002.jpg", 32, 32, 3)
    save("half/cat_0.png", 32, 32, 3), save("one/0.png", 32, 32, 3)
    save("videos/a/b.png", 32, 32, 3)
    for name in ("loop.mp4", "folder.safetensors"):
        (folder / name).mkdir()
    for name in ("0.png", "1.png", "2.png"):
        save(f"ok/a/{name}", 64, 64, 3)
    cell = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "small.ipynb")
    return folder
