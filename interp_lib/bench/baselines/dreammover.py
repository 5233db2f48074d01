"""DreamMover, and by its switches every row of its ablation (Table 3)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._keyframes import at_size
from interp_lib.dreammover.inputs import LORA
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.images import fit_images
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

MODEL = "image"


def make(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    inversion_steps: int = 30,
    preset: str = "paper",
    lora: bool = True,
    batch_size: int | None = None,
    scratch: str | None = None,
    **switches: Any,
) -> Interpolation:
    """Run `interpolate` on the pair.

    scratch: a folder for the pair's LoRA, in which the next row of the ablation finds it; the numbers are the same.
    """
    how = {"steps": steps, "inversion_steps": inversion_steps, "seed": seed, "progress": False}
    how |= {"preset": preset, "batch_size": batch_size, "prompt": pair.caption, **switches}
    how["lora"] = _shared_lora(model, pair, seed, preset, Path(scratch)) if lora and scratch else lora
    return at_size(interpolate(model, pair.image0, pair.image1, frames=frames, **how), pair)


def _shared_lora(model: ImageModel, pair: Pair, seed: int, preset: str, folder: Path) -> Path:
    """The file of the LoRA that `interpolate` would fit, fitted where it is not there yet."""
    images, _ = fit_images(torch.cat([pair.image0, pair.image1]), multiple=model.multiple)
    path = folder / f"{_mark(images, pair.caption, seed, preset)}.safetensors"
    if not path.is_file():
        steps, lr, _ = LORA[preset]
        fitted = fit_lora(model, images, prompt=pair.caption, steps=steps, lr=lr, seed=seed, progress=False)
        try:
            fitted.save(path)
        finally:
            fitted.remove()
    return path


def _mark(images: Tensor, *told: Any) -> str:
    digest = hashlib.sha256(repr((tuple(images.shape), *told)).encode())
    digest.update(images.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
