"""The two papers' methods, and by their switches every row of the ablations."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from interp_lib.bench.baselines._frames import keyframes
from interp_lib.dreammover.features import feature_block
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import LORA, interpolate
from interp_lib.images import fit_images
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.image_model import ImageModel
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation, Pair


def dreammover(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    inversion_steps: int = 30,
    preset: str = "paper",
    lora: bool = True,
    flow: Any = "diffusion",
    two_level: bool = True,
    attention: bool = True,
    batch_size: int | None = None,
    scratch: str | None = None,
) -> Interpolation:
    """Run `interpolate` with its arguments; lora, flow, two_level and attention are Table 3's ablations.

    scratch: a folder for the pair's LoRA, in which the next row of the ablation finds it; the numbers are the same.
    """
    result = interpolate(
        model,
        pair.image0,
        pair.image1,
        frames=frames,
        preset=preset,
        lora=_shared_lora(model, pair, seed, preset, Path(scratch)) if lora and scratch else lora,
        flow=flow,
        two_level=two_level,
        attention=attention,
        steps=steps,
        inversion_steps=inversion_steps,
        batch_size=batch_size,
        seed=seed,
        prompt=pair.caption,
        feature_block=feature_block(model, min(pair.image0.shape[-2:])),
        progress=False,
    )
    return _at_pair_size(result, pair)


def _shared_lora(model: ImageModel, pair: Pair, seed: int, preset: str, folder: Path) -> Path:
    """Return the file of the LoRA that `interpolate` would fit, fitted where it is not there yet."""
    images, _ = fit_images(keyframes(pair), multiple=model.multiple)
    digest = hashlib.sha256(repr((tuple(images.shape), pair.caption, seed, preset)).encode())
    digest.update(images.detach().cpu().contiguous().numpy().tobytes())
    path = folder / f"{digest.hexdigest()[:16]}.safetensors"
    if not path.is_file():
        with fit_lora(model, images, prompt=pair.caption, seed=seed, progress=False, **LORA[preset][0]) as fitted:
            fitted.save(path)
    return path


def generative_inbetweening(
    model: VideoModel, pair: Pair, *, frames: int, seed: int, method: str, steps: int = 50, recurrence: int = 5
) -> Interpolation:
    """Run `inbetween`, by one of its methods: dual sampling, its ablations, and its relatives on the same model.

    The first and the last frame are what the model makes of the keyframes, as in the paper's videos.
    """
    options = {"method": method, "steps": steps, "recurrence": recurrence, "seed": seed, "progress": False}
    return _at_pair_size(inbetween(model, pair.image0, pair.image1, frames=frames + 2, **options), pair)


def _at_pair_size(result: Interpolation, pair: Pair) -> Interpolation:
    """Return the result on the CPU and at the pair's size, which the model may have cropped or scaled; noted."""
    frames, size = result.frames.float().cpu(), tuple(pair.image0.shape[-2:])
    if tuple(frames.shape[-2:]) != size:
        height, width = frames.shape[-2:]
        result.notes.append(f"frames of {width}x{height} pixels were scaled back to the pair's size.")
        frames = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    result.frames = frames
    return result
