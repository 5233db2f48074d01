"""The training pictures: frames of world scenes at two times each, rendered once and kept, and crops of photographs."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.train.loop import save
from interp_lib import world
from interp_lib.world.picture_book import sample_clip, sample_pair
from interp_lib.world.textures import PHOTOGRAPHS, photograph

SIZE = 128
FIRST_SEED = 1_000_000  # training seeds start here; everything below is held out
CHUNK = 64  # scenes a file
WORLD = (
    2  # edition of the world: raise it when a scene of the same seed looks different, and pictures are rendered anew
)


def render_frames(folder: Path, scenes: int) -> tuple[Tensor, list[str]]:
    """Render two frames of each scene: `[2*scenes,3,128,128]` uint8, and their captions. 64 scenes are a file.

    Raises ValueError unless `scenes` is a multiple of 64.
    """
    if scenes < CHUNK or scenes % CHUNK:
        raise ValueError(f"scenes={scenes}: give a multiple of {CHUNK}, the number of scenes a file holds.")
    paths = [folder / f"world-{WORLD}" / f"{first:06d}.pt" for first in range(0, scenes, CHUNK)]
    for index, path in enumerate(paths):
        if not path.exists():
            save(_chunk(index * CHUNK), path)
            if index % 10 == 9:
                print(f"frames: {(index + 1) * CHUNK} of {scenes} scenes", flush=True)
    parts = [torch.load(path, weights_only=True) for path in paths]
    return torch.cat([p["frames"] for p in parts]), [c for p in parts for c in json.loads(p["captions"])]


def _chunk(first: int) -> dict:
    """Every fourth scene is one of a clip, the others are pairs; all objects are breeds, never strangers."""
    frames, captions = [], []
    for start in range(first, first + CHUNK, 16):
        seeds = [FIRST_SEED + k for k in range(start, start + 16)]
        scenes = [sample_clip(s) if s % 4 == 3 else sample_pair(s) for s in seeds]
        scene = world.stack(scenes)
        for time in torch.rand(2, len(scene), generator=torch.Generator().manual_seed(start)):
            frames.append((world.render(scene, time, size=SIZE) * 255).round().to(torch.uint8))
            captions += scene.captions
    return {"frames": torch.cat(frames), "captions": json.dumps(captions)}


class Photographs:
    """Random square crops of the training photographs, of any scale, resized to `size`."""

    def __init__(self) -> None:
        self.images = [photograph(name) for name in PHOTOGRAPHS]

    def crops(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw `[count,3,size,size]` in [0,1]; crops are at least `size` px a side, half of them mirrored."""
        drawn = []
        for _ in range(count):
            which, scale, top, left, mirror = torch.rand(5, generator=generator).tolist()
            image = self.images[int(which * len(self.images))]
            shortest = min(image.shape[1:])
            side = int(size + (shortest - size) * scale**1.5)
            y, x = int(top * (image.shape[1] - side)), int(left * (image.shape[2] - side))
            crop = image[None, :, y : y + side, x : x + side]
            crop = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
            drawn.append(crop.flip(-1) if mirror < 0.5 else crop)
        return torch.cat(drawn)
