"""Background textures: soft squares of public-domain and CC0 photographs."""

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
SIDE = 64  # texels a side: soft grounds, which do not alias at the smallest size a scene is rendered at


def photograph(name: str) -> Tensor:
    """One photograph of data/photographs, `[3,H,W]` in [0,1]."""
    with Image.open(FOLDER / name) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@lru_cache(maxsize=1)
def textures() -> Tensor:
    """The centre squares of all photographs, `[n,3,64,64]`."""
    squares = []
    for name in PHOTOGRAPHS:
        image = photograph(name)
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        square = image[None, :, top : top + side, left : left + side]
        fine = F.interpolate(square, size=(8 * SIDE, 8 * SIDE), mode="bilinear", antialias=True, align_corners=False)
        squares.append(F.avg_pool2d(fine, 8))
    return torch.cat(squares)


def sample_photographs(index: Tensor, points: Tensor) -> Tensor:
    """Bilinear look-up with mirrored borders, `[B,3,H,W]`.

    index: [B] long. points: [B,H,W,2], a texture is the unit square.
    """
    return F.grid_sample(
        textures()[index], points * 2 - 1, mode="bilinear", padding_mode="reflection", align_corners=False
    )
