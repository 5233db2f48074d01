"""Write the trained networks as a diffusers folder that `StableDiffusionPipeline.from_pretrained` (or the video
pipeline's) can load: fp16, safetensors."""

import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import diffusers
import torch
from torch import nn

IMAGE = {
    "_class_name": "StableDiffusionPipeline",
    "requires_safety_checker": False,
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
}
VIDEO = {
    "_class_name": "StableVideoDiffusionPipeline",
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
}


def write_model(folder: Path, index: dict, finish: Callable[[Path], None] | None = None, **parts) -> None:
    """index: IMAGE or VIDEO, what model_index.json says. parts: what it names. finish: is given the folder, which loads
    by then, and adds to it. The folder is replaced as a whole."""
    fresh = folder.with_name(folder.name + ".partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            part = nn.Module.to(deepcopy(part), "cpu", torch.float16)  # diffusers' own would warn
        part.save_pretrained(fresh / name)
    index = {"_class_name": index["_class_name"], "_diffusers_version": diffusers.__version__} | index
    (fresh / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    if finish is not None:
        finish(fresh)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
