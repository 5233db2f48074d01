"""Background textures: public-domain and CC0 photographs, and the names of the procedural grounds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# CC0 and public domain, see data/photographs/README.md
FOLDER = Path(__file__).resolve().parents[2] / "data" / "photographs"
PHOTOGRAPHS = {
    "grass.png": "grass",
    "gravel.png": "gravel",
    "brick.png": "bricks",
    "coffee.png": "a coffee table",
    "chelsea.png": "a cat's fur",
    "rocket.jpg": "a launch pad",
    "hubble_deep_field.jpg": "a starry sky",
}
GROUNDS = ("a meadow", "sand", "water", "a plain wall", "hills")
SIDE = 512  # texels a side of the finest level


def photograph(name: str) -> Tensor:
    """One photograph of data/photographs, `[3,H,W]` in [0,1]."""
    with Image.open(FOLDER / name) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@lru_cache(maxsize=1)
def pyramid() -> tuple[Tensor, ...]:
    """All photographs as square textures `[n,3,S,S]`, S = 512, 256, 128, 64: a mip-map, so that small renders do not
    alias."""
    finest = []
    for name in PHOTOGRAPHS:
        image = photograph(name)
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        square = image[None, :, top : top + side, left : left + side]
        finest.append(F.interpolate(square, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False))
    levels = [torch.cat(finest)]
    while levels[-1].shape[-1] > 64:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return tuple(levels)


def sample_photographs(index: Tensor, points: Tensor, texels: float) -> Tensor:
    """Bilinear look-up with mirrored borders.

    index: [B] long. points: [B,H,W,2], one texture = the unit square. texels: how many texels of the finest level one
    pixel covers, which picks the pyramid level. Returns [B,3,H,W].
    """
    levels = pyramid()
    level = min(max(round(np.log2(max(texels, 1e-6))), 0), len(levels) - 1)
    return F.grid_sample(
        levels[level][index], points * 2 - 1, mode="bilinear", padding_mode="reflection", align_corners=False
    )
