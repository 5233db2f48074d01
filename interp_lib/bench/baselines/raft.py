"""RAFT's optical flow from the user's weights, and DreamMover with it in place of the diffusion flow (Table 3)."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import pad_to
from interp_lib.bench.baselines._weights import Need, fill, find, is_script, load_script, load_state
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.images import as_images, fit_images
from interp_lib.models.folder import pick_device
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

MODEL = "image"
NEEDS = (
    Need(
        "RAFT",
        "its weights",
        "download https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth for torchvision's RAFT, or "
        "export another to TorchScript",
    ),
)
LEAST = 128  # px, below which the correlation pyramid has no room
ALIGN = 8


def make(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    weights: str | os.PathLike | None = None,
    steps: int = 50,
    inversion_steps: int = 30,
    **switches: Any,
) -> Interpolation:
    """`interpolate` with RAFT's two flows; steps, inversion_steps and the rest are its own.

    weights: see `raft_flows`, whose errors it raises too.
    """
    images, _ = fit_images(torch.cat([pair.image0, pair.image1]), multiple=model.multiple)  # as interpolate cuts them
    flow = raft_flows(images[:1], images[1:], weights=weights, device=model.device)
    how = {"steps": steps, "inversion_steps": inversion_steps, "seed": seed, "progress": False, **switches}
    made = interpolate(model, pair.image0, pair.image1, frames=frames, flow=flow, **how)
    made.frames = made.frames.cpu()
    return made


def raft_flows(
    image0: Tensor,
    image1: Tensor,
    *,
    weights: str | os.PathLike | None = None,
    device: str | torch.device = "auto",
) -> tuple[Tensor, Tensor]:
    """(flow01, flow10), each [1,2,H,W] in image pixels on the CPU.

    Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020.
    image0, image1: [1,3,H,W] in [0,1]. weights: a file, else INTERP_RAFT: weights of torchvision's raft_large or
    raft_small (needs torchvision), or a TorchScript file that takes two images in [-1,1] and returns the flow or a
    list of ever finer ones. Sides are padded by their edge pixels to multiples of 8 and 128 px at least, and cut again.
    Raises FileNotFoundError without weights or torchvision, and ValueError for files and results that do not fit.
    """
    images = [as_images(image0, name="image0"), as_images(image1, name="image1")]
    if images[0].shape != images[1].shape or len(images[0]) != 1:
        raise ValueError("raft_flows compares two images [1,3,H,W] of one size.")
    path, chosen = find(NEEDS[0], weights), pick_device(device)
    network = _load(path, path.stat().st_mtime_ns, chosen)
    padded, cut, _ = pad_to(torch.cat(images).to(chosen) * 2 - 1, ALIGN, least=LEAST, mode="replicate")
    flows = []
    with torch.no_grad():
        for a, b in ((padded[:1], padded[1:]), (padded[1:], padded[:1])):
            said = network(a, b)
            flow = said[-1] if isinstance(said, (list, tuple)) else said
            if not isinstance(flow, Tensor) or flow.shape != (1, 2, *padded.shape[-2:]):
                raise ValueError(f"{path} returns no flow [1,2,H,W] of the images' size: it is no RAFT.")
            flows.append(cut(flow).float().cpu())
    return flows[0], flows[1]


@lru_cache(maxsize=1)  # for the next pair; `changed` is part of what it is
def _load(path: Path, changed: int, device: torch.device) -> Any:
    if is_script(path):
        return load_script(path, device, "RAFT")
    state = load_state(path, "RAFT")
    try:
        code = import_module("torchvision.models.optical_flow")
    except (ImportError, RuntimeError):  # the latter from one built for another torch
        raise FileNotFoundError(
            f"{path} holds weights of torchvision's RAFT, and there is no working torchvision: install the one that "
            "matches your torch (https://pytorch.org/get-started/locally), or export RAFT to TorchScript."
        ) from None
    large = any(name.startswith("mask_predictor.") for name in state)  # which the small network does without
    return fill((code.raft_large if large else code.raft_small)(weights=None), state, path, device)
