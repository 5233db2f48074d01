"""The training clips: a large object that moves the way it faces on a path of its own, or a ball that rolls."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.train.data import FIRST_SEED, WORLD
from experiments.train.loop import save
from interp_lib import world
from interp_lib.world.picture_book import sample_clip
from interp_lib.world.scene import Scene

SIZE = 64
CHUNK = 64  # clips a file
BALLS = 0.1  # share of clips in which nothing tells the direction beforehand
LONG = {14: (0.15, 0.35), 25: (0.15, 0.5)}  # frames -> travelled distance, in sides


def render_clips(folder: Path, clips: int, frames: int) -> tuple[Tensor, Tensor]:
    """Render `[clips,frames,3,64,64]` uint8 and the distance travelled a frame `[clips]`, in sides; kept on disk.

    Raises ValueError unless `clips` is a multiple of 64.
    """
    if clips < CHUNK or clips % CHUNK:
        raise ValueError(f"clips={clips}: give a multiple of {CHUNK}, the number of clips a file holds.")
    paths = [folder / f"world-{WORLD}" / f"{frames}-{first:06d}.pt" for first in range(0, clips, CHUNK)]
    for index, path in enumerate(paths):
        if not path.exists():
            save(_chunk(index * CHUNK, frames), path)
            if index % 10 == 9:
                print(f"clips of {frames} frames: {(index + 1) * CHUNK} of {clips}", flush=True)
    parts = [torch.load(path, weights_only=True) for path in paths]
    return torch.cat([p["frames"] for p in parts]), torch.cat([p["speed"] for p in parts])


def facings(clips: int, frames: int) -> Tensor:
    """Return which way the objects of these clips face `[clips]`: +1 right, -1 left, 0 for a ball."""
    signs = []
    for first in range(0, clips, CHUNK):
        facing = world.stack(_scenes(first, frames)).actors[:, 0, 2].sign()
        signs.append(facing.masked_fill(torch.from_numpy(_balls(first, frames)), 0.0))
    return torch.cat(signs)


def _balls(first: int, frames: int) -> np.ndarray:
    return np.random.default_rng([first, frames]).random(CHUNK) < BALLS


def _scenes(first: int, frames: int) -> list[Scene]:
    seeds = [FIRST_SEED + frames * 1_000_000 + k for k in range(first, first + CHUNK)]
    balls = _balls(first, frames)
    return [sample_clip(seed, travel=LONG[frames], ball=bool(ball)) for seed, ball in zip(seeds, balls, strict=True)]


def _chunk(first: int, frames: int) -> dict[str, Tensor]:
    scene = world.stack(_scenes(first, frames))
    times = torch.linspace(0, 1, frames).tolist()
    pictures = torch.stack([world.render(scene, time, size=SIZE) for time in times], 1)
    return {"frames": (pictures * 255).round().to(torch.uint8), "speed": scene.actors[:, 0, 5] / (frames - 1)}
