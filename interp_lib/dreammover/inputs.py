"""What a run is given or chooses for its model: its settings, images, flow, and the one LoRA of the keyframes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_choice, check_int, check_switch
from interp_lib.dreammover.ddim import PRESETS
from interp_lib.dreammover.features import feature_block
from interp_lib.dreammover.lora import Lora, active_lora, check_seed, fit_lora, load_lora
from interp_lib.images import prepare_pair
from interp_lib.models.image_model import ImageModel

if TYPE_CHECKING:
    from PIL.Image import Image

FLOWS = ("diffusion", "classical", "zero")


class LoraSettings(NamedTuple):
    """How the LoRA is fitted, and its strength while generating (it is 1 while inverting)."""

    steps: int
    lr: float
    strength: float


LORA = {"paper": LoraSettings(80, 5e-4, 1.0), "released": LoraSettings(200, 2e-4, 0.8)}


@dataclass
class Settings:
    """The arguments of `interpolate`, which explains them, but for the images; checked, where no model is needed."""

    frames: int
    preset: str
    two_level: bool
    attention: bool
    lora: bool | Lora | str | os.PathLike | None
    flow: str | tuple[Tensor, Tensor]
    steps: int
    inversion_steps: int | None
    batch_size: int | None
    seed: int | torch.Generator
    prompt: str
    endpoints: str
    solver: str
    progress: bool

    def __post_init__(self):
        self.frames = check_int("frames", self.frames, 1)
        self.batch_size = None if self.batch_size is None else check_int("batch_size", self.batch_size, 1)
        check_choice("preset", self.preset, PRESETS)
        check_choice("endpoints", self.endpoints, ("input", "reconstructed"))
        check_switch("two_level", self.two_level)
        check_switch("attention", self.attention)
        check_seed(self.seed)
        if not isinstance(self.prompt, str):
            kind = type(self.prompt).__name__
            raise ValueError(f"prompt is a {kind}: give one string for all images, '' for none.")


def choose_lora(model: ImageModel, lora: Any) -> bool | Lora | str | os.PathLike:
    """Return the argument `lora`, None being the model's recommendation, else the paper's (fit one)."""
    if lora is None:
        lora = model.settings.get("lora", True)
        check_switch("lora in the model's settings.json", lora)
    if isinstance(lora, Lora):
        if lora.model is not model:
            raise ValueError("lora was fitted to another model object: save it and give its path, or fit it again.")
        lora.layers()
    elif not isinstance(lora, (bool, str, os.PathLike)):
        raise ValueError(f"lora is a {type(lora).__name__}: give True, False, a handle from fit_lora, or a file.")
    return lora


@contextmanager
def pair_lora(
    model: ImageModel, lora: Any, images: Tensor, preset: str, prompt: str, seed: Any, progress: bool
) -> Iterator[Lora | None]:
    """Put the chosen LoRA, alone, on the model; what this run put there is removed at the end."""
    fitted = None
    try:
        if lora is True:
            steps, lr, _ = LORA[preset]
            fitted = fit_lora(model, images, prompt=prompt, steps=steps, lr=lr, seed=seed, progress=progress)
        elif lora is not False and not isinstance(lora, Lora):
            fitted = load_lora(model, lora)
        adapter = lora if isinstance(lora, Lora) else fitted
        with active_lora(model, adapter):
            yield adapter
    finally:
        if fitted is not None:
            fitted.remove()


def prepare_images(
    model: ImageModel, images: Tensor | Sequence[Tensor | Image], *, size: int | tuple[int, int] | None = None
) -> tuple[Tensor, list[str]]:
    """Return the keyframes as [K,3,H,W] on a size the model takes, and the notes on reading and on resizing them.

    size: as in `prepare_pair`; None keeps the size of tensors (cut to the model's multiples) and reduces
    PIL images, which are photographs of any size, to about the model's own area. Raises ValueError for fewer than two
    images, and for neighbours that are identical.
    """
    batch = isinstance(images, Tensor) and images.ndim == 4
    listed = images.split(1) if batch else list(images) if isinstance(images, Sequence) else []
    if len(listed) < 2:
        raise ValueError("images must be two or more: give a batch [K,3,H,W], or a list of tensors and PIL images.")
    largest = model.native_size
    if isinstance(listed[0], Tensor) and size is None:
        largest, sides = sys.maxsize, listed[0].shape[-2:]
        if min(sides) >= model.multiple:  # cut to the multiple rather than resampled
            size = tuple(side - side % model.multiple for side in sides)
    out, notes = prepare_pair(listed, size=size, native_size=largest, multiple=model.multiple)
    return torch.cat(out), notes


def prepare_flow(
    model: ImageModel, flow: Any, images: Tensor, pairs: int, resized: list[str]
) -> tuple[Tensor, Tensor] | None:
    """Return two flows, given in latent or in image pixels, as [pairs,2,h,w] in latent pixels; None for one of FLOWS.

    resized: notes on what was done to the images, for the error's sentence.
    """
    if isinstance(flow, str):
        check_choice("flow", flow, FLOWS)
        return None
    height, width = images.shape[-2:]
    latent = (height // model.vae_factor, width // model.vae_factor)
    alike = f", cut as the images were ({resized[-1]})" if resized else ""
    if not (isinstance(flow, (tuple, list)) and len(flow) == 2 and all(isinstance(f, Tensor) for f in flow)):
        raise ValueError(f"flow must be a name or two tensors (flow01, flow10), each [{pairs},2,h,w].")
    out = []
    for name, f in zip(("flow01", "flow10"), flow, strict=True):
        f = (f if f.ndim == 4 else f[None]).detach().float().to(model.device)
        if f.ndim != 4 or f.shape[:2] != (pairs, 2) or tuple(f.shape[2:]) not in (latent, (height, width)):
            raise ValueError(
                f"{name} has shape {list(f.shape)}: give [{pairs},2,{latent[0]},{latent[1]}] in latent pixels or "
                f"[{pairs},2,{height},{width}] in image pixels{alike}."
            )
        if not bool(torch.isfinite(f).all()):
            raise ValueError(f"{name} contains NaN or infinite values: fill what is unknown, for instance with 0.")
        out.append(f if tuple(f.shape[2:]) == latent else F.interpolate(f, latent, mode="area") / model.vae_factor)
    return out[0], out[1]


def note_choices(model: ImageModel, settings: Settings, steps_down: int, lora: Any, images: Tensor) -> list[str]:
    """Say what was chosen for the model: T and the LoRA where the caller left them open, the features' block."""
    chosen = [f"inversion_steps={steps_down}"] if settings.inversion_steps is None else []
    chosen += [f"lora={lora}"] if settings.lora is None else []
    if isinstance(settings.flow, str) and settings.flow == "diffusion":
        chosen.append(f"features of up-block {feature_block(model, max(images.shape[-2:]))}")
    return [f"chosen for this model: {', '.join(chosen)}"] if chosen else []
