"""Wan's first-and-last-frame model, by diffusers' own pipeline: what people use today."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from interp_lib.bench.baselines._frames import between_ends, nearest, resize, say_nearest
from interp_lib.bench.baselines._weights import Need, find
from interp_lib.checks import check_int
from interp_lib.images import area_size, to_pil
from interp_lib.models.folder import first_line, pick_device, quiet
from interp_lib.types import Interpolation, Pair

MODEL = None
HUB = "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers"
NEEDS = (
    Need(
        "Wan",
        "its pipeline as a folder or a name on the Hugging Face hub (tens of GB)",
        f"hf download {HUB} --local-dir FOLDER (or give that name itself, and it is fetched)",
        folder=True,
    ),
)
MULTIPLE = 16  # px, of the VAE (8) and the patches of the transformer (2)


def make(
    model: None,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    weights: Any = None,
    num_frames: int = 81,
    num_inference_steps: int = 50,
    guidance_scale: float = 5.5,
    side: int = 960,
    device: str = "auto",
) -> Interpolation:
    """A clip of `num_frames` with both ends, of which the nearest in time are taken; the caption is the prompt.

    Source: Wan Team, Wan: Open and Advanced Large-Scale Video Generative Models, 2025; settings of its model card.
    weights: a folder in diffusers' format or a hub name, else INTERP_WAN, or a WanImageToVideoPipeline of your own
    (quantised, offloaded). num_frames: 4k+1; more where `frames`+2 is more. side: the clip has about side*side pixels
    with the aspect of the pair (960: 720p), and is brought back to the pair's size.
    Raises FileNotFoundError without the model, ValueError for one that takes no last image and for a wrong num_frames.
    """
    count, own = _count(num_frames, frames), tuple(pair.image0.shape[-2:])
    height, width = area_size(*own, side=side, multiple=MULTIPLE)
    video = _pipeline(weights, device)(
        image=to_pil(pair.image0),
        last_image=to_pil(pair.image1),
        prompt=pair.caption,
        height=height,
        width=width,
        num_frames=count,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).frames[0]
    notes = [f"made at {width}x{height} pixels", *say_nearest(len(video), frames)]
    calls = num_inference_steps * (2 if guidance_scale > 1 else 1)
    chosen = resize(video[nearest(len(video), frames)].float().cpu(), own)
    return between_ends(pair, chosen, calls=calls, notes=notes)


def _count(num_frames: int, frames: int) -> int:
    """num_frames, or the next 4k+1 that holds `frames` and both ends."""
    num_frames = check_int("num_frames", num_frames, 5)
    if num_frames % 4 != 1:
        raise ValueError(f"num_frames={num_frames}: Wan makes 4k+1 frames, for instance {num_frames // 4 * 4 + 1}.")
    return max(num_frames, 4 * -(-(frames + 1) // 4) + 1)


def _pipeline(weights: Any, device: str) -> Any:
    if weights is not None and not isinstance(weights, (str, os.PathLike)):
        if not callable(weights):
            raise ValueError(f"weights is a {type(weights).__name__}: give a folder, a hub name, or a loaded pipeline.")
        return weights
    source = weights if weights is not None else os.environ.get(NEEDS[0].variable, "")
    on_hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(source)) and not Path(source).exists()
    return _load(str(source) if on_hub else str(find(NEEDS[0], weights)), str(pick_device(device)))


@lru_cache(maxsize=1)  # for the next pair
def _load(source: str, device: str) -> Any:
    """The pipeline in bfloat16, its encoders of images in float32; on CUDA a part is there only while it works."""
    if find_spec("ftfy") is None:
        raise ValueError("diffusers' Wan pipeline needs the package ftfy to read a prompt: pip install ftfy.")
    from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanTransformer3DModel
    from transformers import CLIPVisionModel

    try:
        with quiet():
            config = WanTransformer3DModel.load_config(source, subfolder="transformer")
            if config.get("image_dim") is not None and config.get("pos_embed_seq_len") is None:
                raise ValueError("it takes a first image only")
            parts = {"vae": _part(AutoencoderKLWan, source, "vae", torch_dtype=torch.float32)}
            if config.get("image_dim") is not None:
                parts["image_encoder"] = _part(CLIPVisionModel, source, "image_encoder", dtype=torch.float32)
            pipeline = WanImageToVideoPipeline.from_pretrained(
                source, **parts, torch_dtype=torch.bfloat16, use_safetensors=True
            )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # the hub's are OSErrors
        raise ValueError(f"{source} is no first-and-last-frame Wan ({first_line(error)}): get {HUB}.") from None
    pipeline.set_progress_bar_config(disable=True)
    if device.startswith("cuda"):
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)


def _part(cls: Any, source: str, part: str, **dtype: torch.dtype) -> Any:
    return cls.from_pretrained(source, subfolder=part, use_safetensors=True, **dtype)
