"""How a wrong input has to be answered, held to every row of the tables in this folder.

The exact kind of exception, one sentence that matches (what was given, and the way out), no second traceback above it,
before any network has run, and with nothing left behind on disk.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from interp_lib import load_image_model, load_video_model, save_video
from interp_lib.images import open_image

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
SD, SVD = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
DELTAS = CONFORMANCE / "inbetween" / "deltas.safetensors"
WHOLE, FINITE = "is out of range: give a whole number", "is out of range: give a finite number"
MISSING, NAN = FileNotFoundError, float("nan")


@cache
def image_model() -> Any:
    return load_image_model(SD, device="cpu")


@cache
def video_model() -> Any:
    return load_video_model(SVD, device="cpu", reverse=DELTAS)


@cache
def keyframe(number: int) -> Tensor:
    """[1,3,64,64] in [0,1]"""
    return open_image(CONFORMANCE / "inbetween" / f"{number}.png")[0]


@dataclass(frozen=True)
class Ground:
    """files: inputs that no row changes. out: an empty folder of the row's own, the current one."""

    files: Path
    out: Path
    image = property(lambda self: image_model())
    video = property(lambda self: video_model())
    first = property(lambda self: keyframe(0))
    last = property(lambda self: keyframe(1))


def refuse(
    ground: Ground, function: Callable, says: str, arguments: Any = (), options: Any = None, kind: Any = ValueError
) -> None:
    """Fail unless a call is refused as it has to be: one row of a table.

    says: a regular expression of the sentence. arguments: a tuple, or a function of the ground that returns one.
    """
    before, ran = listing(ground.out), []
    networks = [image_model().unet, image_model().vae, video_model().unet, video_model().vae]
    hooks = [net.register_forward_pre_hook(lambda module, _: ran.append(type(module).__name__)) for net in networks]
    given = arguments(ground) if callable(arguments) else arguments
    try:
        with pytest.raises(Exception) as caught:
            function(*given, **(options or {}))
    finally:
        for hook in hooks:
            hook.remove()
    error, sentence = caught.value, str(caught.value)
    assert type(error) is kind and re.search(says, sentence), f"{type(error).__name__}: {sentence}"
    assert "\n" not in sentence and 20 < len(sentence) < 1000, sentence
    assert error.__suppress_context__ or error.__context__ is None, "a second traceback above it"
    assert not ran, f"{ran[0]} ran before the answer"
    assert listing(ground.out) == before, "it left something behind"


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, and every folder."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def make_files(folder: Path) -> Path:
    """Write good inputs (a.png, b.png, clip.mp4) and everything that can be wrong with a picture or a video."""
    rng = np.random.default_rng(0)
    sizes = {"a.png": (64, 64), "b.png": (64, 64), "larger.png": (80, 96), "flat.png": (4, 20)}
    sizes |= {"mixed/x/0.png": (32, 32), "mixed/x/1.png": (40, 40), "one/0.png": (32, 32)}
    sizes |= {f"gap/JPEGImages/480p/bear/0000{k}.jpg": (32, 32) for k in (0, 2)}
    for name, shape in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(folder / name)
    for name in ("empty", "named", "single", "listed", "folder.gif"):
        (folder / name).mkdir()
    shutil.copy(folder / "a.png", folder / "same.png")
    Image.fromarray(np.full((12, 20), np.nan, np.float32)).save(folder / "nan.tif")
    Image.fromarray(np.full((12, 20), 7.0, np.float32)).save(folder / "range.tif")
    Image.new("1", (10000, 10000)).save(folder / "bomb.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    save_video(torch.rand(12, 3, 32, 48), folder / "clip.mp4")
    save_video(torch.rand(1, 3, 32, 48), folder / "single" / "one.mp4")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:6000])
    (folder / "cut.safetensors").write_bytes(DELTAS.read_bytes()[:1000])
    torch.save({"a": torch.zeros(2)}, folder / "pickled.safetensors")
    for name in ("text.png", "named/text.mp4"):
        (folder / name).write_text("neither image nor video")
    shutil.copy(folder / "clip.mp4", folder / "listed")
    (folder / "listed" / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    return folder
