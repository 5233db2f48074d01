"""Wan's first-and-last-frame model, by diffusers' own pipeline: what people use today."""

import os
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch

from interp_lib.bench.baselines._frames import between_keyframes, nearest, resize
from interp_lib.checks import check_int
from interp_lib.images import area_size, to_pil
from interp_lib.models.folder import first_line, pick_device, quiet
from interp_lib.types import Interpolation, Pair

HUB = "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers"
NEED = f"Wan needs its pipeline, tens of GB: hf download {HUB} --local-dir FOLDER"
NEED += ", and give FOLDER (or the name itself, which is then fetched) in the environment variable INTERP_WAN."


def wan(
    model: Any,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    num_frames: int = 81,
    num_inference_steps: int = 50,
    guidance_scale: float = 5.5,
    side: int = 960,
    device: str = "auto",
) -> Interpolation:
    """Make a clip of `num_frames` with both keyframes and take the nearest in time; the caption is the prompt.

    Source: Wan Team, Wan: Open and Advanced Large-Scale Video Generative Models, 2025; settings of its model card.
    model: a WanImageToVideoPipeline of your own (quantised, offloaded), or None for the one that INTERP_WAN names, a
    folder in diffusers' format or a hub name. num_frames: 4k+1; more where `frames`+2 is more. side: the clip has about
    side*side pixels with the aspect of the pair (960: 720p), and is resized to the pair's size.
    """
    num_frames, size = check_int("num_frames", num_frames, 5), tuple(pair.image0.shape[-2:])
    if num_frames % 4 != 1:
        raise ValueError(f"num_frames={num_frames}: Wan makes 4k+1 frames, for instance {num_frames // 4 * 4 + 1}.")
    height, width = area_size(*size, side=side, multiple=16)  # of the VAE (8) and the transformer's patches (2)
    video = (model or _load(os.environ.get("INTERP_WAN", ""), str(pick_device(device))))(
        image=to_pil(pair.image0),
        last_image=to_pil(pair.image1),
        prompt=pair.caption,
        height=height,
        width=width,
        num_frames=max(num_frames, 4 * -(-(frames + 1) // 4) + 1),  # the next 4k+1 that holds `frames` and both ends
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).frames[0]
    chosen, note = nearest(len(video), frames)
    calls = num_inference_steps * (2 if guidance_scale > 1 else 1)
    middle = resize(video[chosen].float().cpu(), size)
    return between_keyframes(pair, middle, calls=calls, notes=[f"made at {width}x{height} pixels", *note])


@lru_cache(maxsize=1)  # for the next pair
def _load(source: str, device: str) -> Any:
    """Load the pipeline in bfloat16, VAE and image encoder in float32; on CUDA a part is there only while it works."""
    if not source:
        raise FileNotFoundError(NEED)
    if find_spec("ftfy") is None:
        raise ValueError("diffusers' Wan pipeline needs the package ftfy to read a prompt: pip install ftfy.")
    from diffusers import WanImageToVideoPipeline

    dtypes = {"vae": torch.float32, "image_encoder": torch.float32, "default": torch.bfloat16}
    try:
        with quiet():
            pipeline = WanImageToVideoPipeline.from_pretrained(source, torch_dtype=dtypes, use_safetensors=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # the hub's are OSErrors
        raise ValueError(f"{source} is no first-and-last-frame Wan ({first_line(error)}): get {HUB}.") from None
    pipeline.set_progress_bar_config(disable=True)
    if device.startswith("cuda"):
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)
