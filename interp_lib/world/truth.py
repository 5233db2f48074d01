"""Exact ground truth: which part a pixel shows, where that point is at any other time, and whether it can be seen
there."""

import numpy as np
import torch
from torch import Tensor

from interp_lib.checks import check_int, check_size
from interp_lib.types import Pair
from interp_lib.world.render import distance, grid, pose, render, scales, to_local
from interp_lib.world.scene import Scene, sample_scene

LEAST = 16  # pixels a side


def locate(scene: Scene, time: Tensor, points: Tensor) -> Tensor:
    """Index of the nearest part that covers each point `[B,H,W,2]` at a time, -1 for the ground: `[B,H,W]` long."""
    matrices, parts = pose(scene, time), scene.parts.flatten(1, 2)
    lengths = scales(matrices)
    seen = torch.full(points.shape[:-1], -1, dtype=torch.long)
    for index in range(parts.shape[1]):
        inside = distance(parts[:, index], to_local(matrices[:, index], points), lengths[:, index]) < 0
        seen = torch.where(inside, index, seen)
    return seen


def true_flow(scene: Scene, start: float, end: float, *, size: int | tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Exact flow from one time to another, of the points seen at pixel centres.

    Returns flow `[B,2,H,W]` in image pixels (dx right, dy down), visible `[B,1,H,W]` bool (the point is in the frame
    and not covered at the end time) and parts `[B,1,H,W]` long (-1 = ground).
    """
    before, after = (torch.full((len(scene),), float(t)) for t in (start, end))
    points = grid(size).expand(len(scene), -1, -1, -1)
    seen = locate(scene, before, points)
    moved = points - (scene.camera * (after - before)[:, None])[:, None, None]
    here, there = pose(scene, before), pose(scene, after)
    for index in range(here.shape[1]):
        local = to_local(here[:, index], points)
        landed = torch.einsum("bij,bhwj->bhwi", there[:, index, :, :2], local) + there[:, index, None, None, :, 2]
        moved = torch.where((seen == index)[..., None], landed, moved)
    height, width = points.shape[1:3]
    short = min(height, width)
    flow = ((moved - points) * short).permute(0, 3, 1, 2)
    target = moved * short + torch.tensor([(width - short) / 2, (height - short) / 2])
    inside = ((target > 0) & (target < torch.tensor([width, height]))).all(-1)
    visible = inside & (locate(scene, after, moved) == seen)
    return flow, visible[:, None], seen[:, None]


class Clip:
    """A rendered clip that knows its own truth. Times of the frames are equally spaced from 0 to 1.

    frames: [T,3,H,W] in [0,1]. scene: its parameters. caption: a short description. facing: +1 right, -1 left (first
    actor).
    """

    def __init__(self, scene: Scene, *, frames: int, size: int | tuple[int, int]):
        self.scene, self.size, self.caption = scene, size, scene.captions[0]
        self.times = torch.linspace(0, 1, frames)
        self.frames = torch.cat([render(scene, float(t), size=size) for t in self.times])
        self.facing = int(scene.actors[0, 0, 2])

    def flow(self, s: int, t: int) -> Tensor:
        """Flow `[1,2,H,W]` in pixels from frame s to frame t."""
        return true_flow(self.scene, float(self.times[s]), float(self.times[t]), size=self.size)[0]

    def visible(self, s: int, t: int) -> Tensor:
        """`[1,1,H,W]` bool: pixels of frame s whose point can be seen in frame t."""
        return true_flow(self.scene, float(self.times[s]), float(self.times[t]), size=self.size)[1]

    def parts(self, t: int) -> Tensor:
        """Part labels `[1,1,H,W]` of frame t: -1 the ground, then far to near, the first actor's parts first."""
        return true_flow(self.scene, float(self.times[t]), float(self.times[t]), size=self.size)[2]


def render_clip(seed: int, *, frames: int, size: int | tuple[int, int], hard: bool = True, calm: bool = False) -> Clip:
    """A clip whose actors move the way they face, with ground truth. Same seed, same bits, at any size.

    Where the clip starts is independent of the facing. Raises ValueError for fewer than two frames or a side under 16
    px.
    """
    check_int("frames", frames, 2)
    check_size("size", size, LEAST)
    return Clip(sample_scene(seed, hard=hard, calm=calm, start=True), frames=frames, size=size)


def render_pair(
    seed: int,
    *,
    size: int | tuple[int, int],
    displacement: float | tuple[float, float] | None = None,
    hard: bool = True,
    between: int = 7,
) -> Pair:
    """Two frames of a scene far apart in time, with flow, occlusion and `between` true frames in the middle.

    size: pixels, square or (height, width). displacement: distance travelled, in shorter sides (default 0.15 to 0.4).
    hard: with rotation, change of scale, pose and light; otherwise pure translation. Raises ValueError for a size under
    16 px, fewer than 0 frames between, or a displacement outside 0 to 1.
    """
    check_size("size", size, LEAST)
    check_int("between", between, 0)
    shares = np.ravel(0.0 if displacement is None else displacement)
    if shares.dtype.kind not in "fiu" or len(shares) not in (1, 2) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"displacement={displacement}: give a share of the shorter side, or two, between 0 and 1.")
    scene = sample_scene(seed, hard=hard, displacement=displacement)
    return pair_of(scene, f"world{'' if hard else '-easy'}:{seed}", size=size, between=between)


def pair_of(scene: Scene, name: str, *, size: int | tuple[int, int], between: int = 7) -> Pair:
    """Render a scene at both ends and at `between` times in the middle, with its truth."""
    frames = torch.cat([render(scene, t, size=size) for t in torch.linspace(0, 1, between + 2).tolist()])
    flow01, visible01, parts0 = true_flow(scene, 0, 1, size=size)
    flow10, visible10, parts1 = true_flow(scene, 1, 0, size=size)
    return Pair(
        name=name,
        image0=frames[:1],
        image1=frames[-1:],
        frames=frames,
        flow01=flow01,
        flow10=flow10,
        visible01=visible01,
        visible10=visible10,
        actor0=parts0 >= 0,
        actor1=parts1 >= 0,
        caption=scene.captions[0],
    )
