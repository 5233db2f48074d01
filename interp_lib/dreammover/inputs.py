"""What a run is given or chooses for its model: images, flow, and the LoRA of the pair."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_choice, check_switch
from interp_lib.dreammover.features import feature_block
from interp_lib.dreammover.lora import Lora, active_lora, fit_lora, load_lora
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
    model: ImageModel, image0: Tensor | Image, image1: Tensor | Image, *, size: int | tuple[int, int] | None = None
) -> tuple[Tensor, list[str]]:
    """Return both images as [2,3,H,W] on a size the model takes, and the notes on reading and on resizing them.

    size: as in `prepare_pair`; None keeps the size of tensors (cut to the model's multiples) and reduces
    PIL images, which are photographs of any size, to about the model's own area. Raises ValueError for images that are
    no pair.
    """
    largest = model.native_size
    if isinstance(image0, Tensor) and size is None:
        largest, sides = sys.maxsize, image0.shape[-2:]
        if min(sides) >= model.multiple:  # cut to the multiple rather than resampled
            size = tuple(side - side % model.multiple for side in sides)
    images, notes = prepare_pair((image0, image1), size=size, native_size=largest, multiple=model.multiple)
    return torch.cat(images), notes


def prepare_flow(model: ImageModel, flow: Any, images: Tensor, resized: list[str]) -> tuple[Tensor, Tensor] | None:
    """Return two flows, given in latent or in image pixels, as [1,2,h,w] in latent pixels; None for one of FLOWS.

    resized: notes on what was done to the images, for the error's sentence.
    """
    if isinstance(flow, str):
        check_choice("flow", flow, FLOWS)
        return None
    height, width = images.shape[-2:]
    latent = (height // model.vae_factor, width // model.vae_factor)
    alike = f", cut as the images were ({resized[-1]})" if resized else ""
    if not (isinstance(flow, (tuple, list)) and len(flow) == 2 and all(isinstance(f, Tensor) for f in flow)):
        raise ValueError("flow must be a name or two tensors (flow01, flow10), each [1,2,h,w].")
    out = []
    for name, f in zip(("flow01", "flow10"), flow, strict=True):
        f = (f if f.ndim == 4 else f[None]).detach().float().to(model.device)
        if f.ndim != 4 or f.shape[:2] != (1, 2) or tuple(f.shape[2:]) not in (latent, (height, width)):
            raise ValueError(
                f"{name} has shape {list(f.shape)}: give [1,2,{latent[0]},{latent[1]}] in latent pixels or "
                f"[1,2,{height},{width}] in image pixels{alike}."
            )
        if not bool(torch.isfinite(f).all()):
            raise ValueError(f"{name} contains NaN or infinite values: fill what is unknown, for instance with 0.")
        out.append(f if tuple(f.shape[2:]) == latent else F.interpolate(f, latent, mode="area") / model.vae_factor)
    return out[0], out[1]


def note_choices(
    model: ImageModel, images: Tensor, inversion_steps: int | None, lora: Any, flow: str | tuple[Tensor, Tensor]
) -> list[str]:
    """Say what was chosen for the model: T and the LoRA (None where the caller gave them), the features' block."""
    chosen = [] if inversion_steps is None else [f"inversion_steps={inversion_steps}"]
    chosen += [] if lora is None else [f"lora={lora}"]
    if isinstance(flow, str) and flow == "diffusion":
        chosen.append(f"features of up-block {feature_block(model, max(images.shape[-2:]))}")
    return [f"chosen for this model: {', '.join(chosen)}"] if chosen else []
