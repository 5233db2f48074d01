"""What the app does with two uploads and a few settings: a video, or one sentence. No widget and no browser here."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.checks import check_choice, check_int
from interp_lib.images import area_size, fit_images, open_image
from interp_lib.show.media import Media

METHODS = ("DreamMover", "Generative Inbetweening")
LARGEST = 64  # MB, of one upload


class Stopped(Exception):
    """Raised by a progress callback when the reader wants no more of it."""


@dataclass(frozen=True)
class Settings:
    """frames: in all, both images among them. inversion_steps, lora, prompt: DreamMover's.

    recurrence: Generative Inbetweening's. steps: of the noise schedule. fps: of the video file.
    """

    method: str = METHODS[0]
    frames: int = 9
    steps: int = 50
    inversion_steps: int = 14
    recurrence: int = 1
    lora: bool = False
    prompt: str = ""
    seed: int = 0
    fps: float = 8

    def check(self) -> None:
        """ValueError, in one sentence, for what no model could do."""
        check_choice("method", self.method, METHODS)
        check_int("frames", self.frames, 3)
        check_int("steps", self.steps, 2)
        check_int("recurrence", self.recurrence, 0)
        check_int("seed", self.seed, 0)
        if self.method == METHODS[0] and check_int("noise step", self.inversion_steps, 1) > self.steps:
            raise ValueError(
                f"the noise step {self.inversion_steps} is beyond the {self.steps} steps: give at most {self.steps}."
            )


@dataclass
class Models:
    """Where the two models come from; each is loaded when it is first needed, and once."""

    image: str = "embedded"
    video: str = "embedded"
    device: str = "auto"
    loaded: dict[str, Any] = field(default_factory=dict)

    def get(self, method: str) -> Any:
        from interp_lib import load_image_model, load_video_model

        load, source = (load_image_model, self.image) if method == METHODS[0] else (load_video_model, self.video)
        if method not in self.loaded:
            self.loaded[method] = load(source, device=self.device)
        return self.loaded[method]


@dataclass(frozen=True)
class Made:
    """The video, and how it was made: a summary in one line and one note per thing adapted."""

    video: Media
    summary: str
    notes: list[str]


def read_upload(data: bytes, name: str) -> tuple[Tensor, list[str]]:
    """An uploaded file as [1,3,H,W] in [0,1] and what was adapted; ValueError, naming it, for what is no good image."""
    if not data:
        raise ValueError(f"{name} is empty: choose another file.")
    if len(data) > LARGEST * 10**6:
        raise ValueError(f"{name} has {len(data) / 1e6:.0f} MB: at most {LARGEST} MB are taken, make it smaller first.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"  # never under the name that came with it
        path.write_bytes(data)
        try:
            image, notes = open_image(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), name)) from None
    return image, [note.replace(str(path), name) for note in notes]


def check_pair(images: tuple[Tensor, Tensor]) -> None:
    """ValueError for two images [1,3,H,W] of different sizes, or for twice the same."""
    (h0, w0), (h1, w1) = (image.shape[-2:] for image in images)
    if (h0, w0) != (h1, w1):
        raise ValueError(
            f"the first image is {w0}x{h0} pixels and the last {w1}x{h1}: bring one of them to the other's size."
        )
    if torch.equal(*images):
        raise ValueError("the two images are identical: there is nothing between them, choose two different ones.")


def make_video(
    images: tuple[Tensor, Tensor],
    settings: Settings,
    models: Models,
    path: Path,
    on_call: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """The video between two images [1,3,H,W] in [0,1], written to `path`.

    on_call(done, total): before every call of the U-Net; what it raises (Stopped) ends the run and restores the model.
    Raises ValueError and FileNotFoundError, in one sentence, for settings, images and models that do not fit.
    """
    from interp_lib.show.video import save_video

    settings.check()
    check_pair(images)
    start, model = time.perf_counter(), models.get(settings.method)
    height, width = images[0].shape[-2:]
    own = area_size(height, width, side=model.native_size, multiple=model.multiple)
    make, total = _plan(model, settings)
    with _watched(model.unet, lambda done: on_call(done, total)):
        result, notes = make(torch.cat(images), own)
    count, _, height, width = result.frames.shape
    alt = f"{count} frames from the first image to the last, made by {settings.method}"
    video = save_video(result.frames, path, fps=settings.fps, alt=alt)
    summary = (
        f"{count} frames of {width}x{height} pixels by {settings.method}, seed {settings.seed}, "
        f"{result.unet_calls} U-Net calls, {time.perf_counter() - start:.1f} s"
    )
    return Made(video, summary, list(dict.fromkeys([*notes, *result.notes, *video.notes])))


def _plan(model: Any, settings: Settings) -> tuple[Callable[[Tensor, tuple[int, int]], Any], int]:
    """What makes the frames of two images [2,3,H,W] at a size (h, w), and how often it will call the U-Net."""
    how = {"steps": settings.steps, "seed": settings.seed, "progress": False}
    return (_dreammover if settings.method == METHODS[0] else _inbetweening)(model, settings, how)


def _dreammover(model: Any, settings: Settings, how: dict[str, Any]) -> Any:
    from interp_lib.dreammover.inputs import LORA
    from interp_lib.dreammover.pipeline import interpolate

    steps, inversion_steps = settings.steps, settings.inversion_steps
    features = max(1, round(14 / 50 * steps))  # the paper's step, as `estimate_flow` has it
    total = inversion_steps + 1 + max(0, features - inversion_steps) + 2 * inversion_steps
    total += LORA["paper"].steps if settings.lora else 0

    def make(images: Tensor, size: tuple[int, int]) -> Any:
        images, notes = fit_images(images, size=size, multiple=model.multiple)
        switches = {"inversion_steps": inversion_steps, "lora": settings.lora, "prompt": settings.prompt}
        return interpolate(model, *images.split(1), frames=settings.frames - 2, **switches, **how), notes

    return make, total


def _inbetweening(model: Any, settings: Settings, how: dict[str, Any]) -> Any:
    from interp_lib.inbetweening.pipeline import inbetween
    from interp_lib.inbetweening.sampling import unet_calls

    method, notes = "dual", []
    if not model.reverse:
        method = "no-finetune"
        notes.append(
            "this model has no backward-motion deltas: its maps are rotated, its own weights stay (no-finetune)"
        )
    total = unet_calls(method, settings.steps, settings.recurrence)

    def make(images: Tensor, size: tuple[int, int]) -> Any:
        switches = {"method": method, "recurrence": settings.recurrence, "size": size}
        return inbetween(model, *images.split(1), frames=settings.frames, **switches, **how), notes

    return make, total


@contextmanager
def _watched(unet: torch.nn.Module, on_call: Callable[[int], None]) -> Iterator[None]:
    """While it lasts, on_call(done) is told before every call how many were made."""
    done = 0

    def count(module: Any, args: Any) -> None:
        nonlocal done
        on_call(done)
        done += 1

    hook = unet.register_forward_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()


def time_left(done: int, total: int, seconds: float) -> str:
    """Where a run stands, in words: "12 of 43 network calls, about 8 s left"."""
    left = f", about {math.ceil(seconds / done * (total - done))} s left" if done >= 3 else ""
    return f"{done} of {total} network calls{left}"
