"""What methods on an image model share: the keyframes as a batch, the times between, the way back to a result."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation, Pair


def ends(pair: Pair) -> Tensor:
    """Both keyframes, [2,3,H,W]."""
    return torch.cat([pair.image0, pair.image1])


def times(frames: int) -> Tensor:
    """i/(frames+1) for i = 1..frames, [frames,1,1,1] in float64."""
    return (torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)).view(-1, 1, 1, 1)


def with_ends(model: ImageModel, pair: Pair, latents: Tensor, calls: int) -> Interpolation:
    """The decoded middle frames [n,C,h,w] between the pair's own images; calls: of the U-Net, before the method ran."""
    frames = torch.cat([pair.image0, model.decode(latents).cpu(), pair.image1])
    return Interpolation(frames=frames, latents=latents, unet_calls=model.unet_calls - calls)


def at_size(made: Interpolation, pair: Pair) -> Interpolation:
    """The result on the CPU and at the pair's size, which the model may have cut or scaled; what was done is noted."""
    frames, size = made.frames.float().cpu(), tuple(pair.image0.shape[-2:])
    if tuple(frames.shape[-2:]) != size:
        height, width = frames.shape[-2:]
        made.notes.append(f"frames of {width}x{height} pixels were scaled back to the pair's size.")
        frames = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    made.frames = frames
    return made
