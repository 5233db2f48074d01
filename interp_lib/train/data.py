"""The training pictures: frames of world scenes at two times each, rendered once and kept as bytes, and crops of
photographs."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..world import render, sample_scene, stack
from ..world.textures import PHOTOGRAPHS, photograph
from .loop import write_whole

SIZE = 128
FIRST_SEED = 1_000_000  # training seeds start here; everything below is held out
CHUNK = 64  # scenes a file


def render_frames(folder: Path, scenes: int) -> tuple[Tensor, list[str]]:
    """Two frames of each scene, `[2*scenes,3,128,128]` uint8, and their captions; every file of 64 scenes is made
    once."""
    for first in range(0, scenes, CHUNK):
        path = folder / f"frames-{first:06d}.pt"
        if not path.exists():
            content = _chunk(first)
            write_whole(path, lambda p, c=content: torch.save(c, p))
            if first % (CHUNK * 10) == 0:
                print(f"frames: {first + CHUNK} of {scenes} scenes", flush=True)
    parts = [torch.load(folder / f"frames-{k:06d}.pt", weights_only=True) for k in range(0, scenes, CHUNK)]
    return torch.cat([p["frames"] for p in parts]), [c for p in parts for c in json.loads(p["captions"])]


def _chunk(first: int) -> dict:
    frames, captions = [], []
    for start in range(first, first + CHUNK, 16):
        seeds = [FIRST_SEED + k for k in range(start, start + 16)]
        scene = stack([sample_scene(s, calm=s % 5 == 4, start=s % 5 == 4) for s in seeds])
        times = torch.rand(2, len(scene), generator=torch.Generator().manual_seed(start))
        for time in times:
            frames.append((render(scene, time, size=SIZE) * 255).round().to(torch.uint8))
            captions += scene.captions
    return {"frames": torch.cat(frames), "captions": json.dumps(captions)}


class Photographs:
    """Random square crops of the training photographs, of any scale, brought to `size`."""

    def __init__(self) -> None:
        self.images = [photograph(name) for name in PHOTOGRAPHS]

    def crops(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """`[count,3,size,size]` in [0,1]; crops are at least `size` px a side, half of them mirrored."""
        made = []
        for _ in range(count):
            which, scale, top, left, mirror = torch.rand(5, generator=generator).tolist()
            image = self.images[int(which * len(self.images))]
            shortest = min(image.shape[1:])
            side = int(size + (shortest - size) * scale**1.5)
            y, x = int(top * (image.shape[1] - side)), int(left * (image.shape[2] - side))
            crop = image[None, :, y : y + side, x : x + side]
            crop = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
            made.append(crop.flip(-1) if mirror < 0.5 else crop)
        return torch.cat(made)
