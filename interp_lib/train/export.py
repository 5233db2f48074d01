"""Write the trained networks as a diffusers folder that `StableDiffusionPipeline.from_pretrained` can load: fp16,
safetensors."""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from pathlib import Path

import diffusers
import torch
from torch import nn

PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
}


def write_model(folder: Path, **parts) -> None:
    """parts: unet, vae, text_encoder, tokenizer, scheduler. The folder is replaced as a whole; a README in it
    survives."""
    fresh = folder.with_name(folder.name + ".partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            part = deepcopy(part).to("cpu", torch.float16)
        part.save_pretrained(fresh / name)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": diffusers.__version__}
    index |= {"requires_safety_checker": False} | PARTS
    (fresh / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
