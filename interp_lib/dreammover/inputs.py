"""What a run is given or chooses for its model: its images, its flow, and the one LoRA of the keyframes."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from interp_lib.checks import check_choice, check_switch
from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import PRESETS, Inversion
from interp_lib.dreammover.features import diffusion_features
from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.lora import Lora, active_lora, check_seed, fit_lora, load_lora
from interp_lib.images import prepare_pair
from interp_lib.models.image_model import ImageModel

FLOWS = ("diffusion", "classical", "zero")


class LoraSettings(NamedTuple):
    """How the LoRA is fitted, and its strength while generating (it is 1 while inverting)."""

    steps: int
    lr: float
    strength: float


LORA = {"paper": LoraSettings(80, 5e-4, 1.0), "released": LoraSettings(200, 2e-4, 0.8)}


def check_choices(preset: str, endpoints: str, seed: Any, prompt: str, **switches: object) -> None:
    """Raise ValueError unless every one of these arguments of `interpolate` is what it must be."""
    check_choice("preset", preset, PRESETS)
    check_choice("endpoints", endpoints, ("input", "reconstructed"))
    for name, switch in switches.items():
        check_switch(name, switch)
    check_seed(seed)
    if not isinstance(prompt, str):
        raise ValueError(f"prompt is a {type(prompt).__name__}: give one string for all images, '' for none.")


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
    adapter, own = None, not isinstance(lora, Lora)
    try:
        if lora is True:
            steps, lr, _ = LORA[preset]
            adapter = fit_lora(model, images, prompt=prompt, steps=steps, lr=lr, seed=seed, progress=progress)
        elif lora is not False:
            adapter = load_lora(model, lora) if own else lora
        with active_lora(model, adapter):
            yield adapter
    finally:
        if own and adapter is not None:
            adapter.remove()


def prepare_images(
    model: ImageModel, images: Tensor | Sequence[Tensor | Image.Image], *, loop: bool = False
) -> tuple[Tensor, list[str]]:
    """Return the keyframes as [K,3,H,W] at a size the model takes, and the notes on reading and on resizing them.

    Tensors keep their size, cut to the model's multiples; PIL images, which are photographs of any size, are reduced to
    about the model's own area. Raises ValueError for fewer than two images, and for neighbours that are identical.
    """
    batch = isinstance(images, Tensor) and images.ndim == 4
    listed = images.split(1) if batch else list(images) if isinstance(images, Sequence) else []
    if len(listed) < 2:
        raise ValueError("images must be two or more: give a batch [K,3,H,W], or a list of tensors and PIL images.")
    largest, size = model.native_size, None
    if isinstance(listed[0], Tensor):
        largest, sides = sys.maxsize, listed[0].shape[-2:]
        if min(sides) >= model.multiple:  # cut to the multiple rather than resampled
            size = tuple(side - side % model.multiple for side in sides)
    out, notes = prepare_pair(listed, size=size, native_size=largest, multiple=model.multiple)
    if loop and torch.equal(out[-1], out[0]):
        raise ValueError(f"image{len(out) - 1} and image0 are identical: leave the last out, a loop returns by itself.")
    return torch.cat(out), notes


def prepare_flow(model: ImageModel, flow: Any, images: Tensor, pairs: int) -> list[Tensor]:
    """Return two flows, given in latent or in image pixels, as [pairs,2,h,w] in latent pixels; [] for one of FLOWS."""
    if isinstance(flow, str):
        check_choice("flow", flow, FLOWS)
        return []
    if not (isinstance(flow, (tuple, list)) and len(flow) == 2 and all(isinstance(f, Tensor) for f in flow)):
        raise ValueError(f"flow must be a name or two tensors (flow01, flow10), each [{pairs},2,h,w].")
    size = tuple(images.shape[-2:])
    latent, out = tuple(side // model.vae_factor for side in size), []
    for name, f in zip(("flow01", "flow10"), flow, strict=True):
        if f.shape[:2] != (pairs, 2) or tuple(f.shape[2:]) not in (latent, size):
            shapes = [f"[{pairs},2,{height},{width}]" for height, width in (latent, size)]
            given = f"{name} has shape {list(f.shape)}"
            raise ValueError(f"{given}: give {shapes[0]} in latent pixels or {shapes[1]} in image pixels.")
        if not bool(torch.isfinite(f).all()):
            raise ValueError(f"{name} contains NaN or infinite values: fill what is unknown, for instance with 0.")
        f = f.detach().float().to(model.device)
        out.append(f if tuple(f.shape[2:]) == latent else F.interpolate(f, latent, mode="area") / model.vae_factor)
    return out


def find_flow(
    model: ImageModel, kind: str, images: Tensor, inversion: Inversion, pairs: Sequence, batch_size: int, prompt: str
) -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10) [pairs,2,h,w] in latent pixels, of a kind in FLOWS; features once for every image."""
    z = inversion.latents[0]
    size = tuple(z.shape[-2:])
    if kind == "zero":
        zero = z.new_zeros(len(pairs), 2, *size)
        return zero, zero.clone()
    if kind == "classical":
        images = images.to(z.device).split(1)
        ways = [block_flow(images[i], images[j], factor=model.vae_factor) for p in pairs for i, j in (p, p[::-1])]
    else:
        options = {"steps": inversion.steps, "prompt": prompt, "progress": False}
        parts = [inversion.select(part.tolist()) for part in torch.arange(len(z)).split(batch_size)]
        features = [f for p in parts for f in diffusion_features(model, None, inversion=p, **options).split(1)]
        ways = [match_features(features[i], features[j], size=size) for p in pairs for i, j in (p, p[::-1])]
    return torch.cat(ways[::2]), torch.cat(ways[1::2])
