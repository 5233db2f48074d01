"""World-bench and calm-bench: rendered cases whose truth is known at every moment, from seeds that no training saw.

A seed counts as in `held_out.world_pairs`: at least 32 actor pixels are visible in both images, at the set's own size.
All of the first 60 seeds of each set do (measured; and all of the first 500 of the hard and the calm world show 20 and
more at 64 px), so the names are world:0 to world:59, and stay right should the world change.

Grades: `tags["displacement"]` is the median length of the true flow from the first image to the last over the actor
pixels that are visible in both, in longer sides. On the first 60 seeds of the hard world at 128 px it runs from 0.135
to 0.486 with terciles at 0.246 and 0.316; the bounds are these, rounded:

    displacement     small < 0.25    medium < 0.32    large
    world-bench      23              20               17
    world-easy-bench 22              19               19
    calm-bench       20              16               24      (64 px)
"""

from __future__ import annotations

import re
from functools import lru_cache, partial

import torch
from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.bench.datasets.frames import brought_down, moving_frames
from interp_lib.bench.motion import empty_scene, world_clips
from interp_lib.checks import check_int
from interp_lib.types import Pair
from interp_lib.world import render_pair
from interp_lib.world.clips import calm_scene
from interp_lib.world.scene import Scene, sample_scene
from interp_lib.world.truth import LEAST, true_flow

SIZES = {"world": 128, "world-easy": 128, "calm": 64}  # px, the natural sizes of the embedded image and video model
COUNT = 60  # cases of a set: the smallest grade of the three keeps at least 16, see above
PIXELS = 32  # actor pixels visible in both images that a seed needs
BOUNDS = {"small": 0.25, "medium": 0.32}  # longer sides; from the last bound on it is "large"
_SET = re.compile(r"(world|world-easy|calm)-bench(?::(.*))?", re.DOTALL)
_NAME = re.compile(r"(world|world-easy|calm):(0|[1-9][0-9]*)")


def list_names(spec: str) -> list[str]:
    """Names with explicit seeds, "world:0", "world:1", ...: those of N cases begin those of more."""
    if _NAME.fullmatch(spec):
        return [spec]
    found = _SET.fullmatch(spec)
    if not found:
        raise _unknown(spec)
    kind, count = found[1], found[2]
    if count is not None and not re.fullmatch("[1-9][0-9]*", count):
        raise ValueError(f"{spec!r}: after the colon comes the number of cases, as in {kind}-bench:50.")
    return [f"{kind}:{seed}" for seed in counting_seeds(kind, COUNT if count is None else int(count))]


def load(name: str, *, frames: int, size: int | tuple[int, int] | None) -> Case:
    """The case of one seed, rendered at `size`; its flow is exact between any two of its frames.

    Raises ValueError for an unknown name, a side under 16 px, and a seed that shows no actor pixel in both images.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise _unknown(name)
    kind, seed = found[1], int(found[2])
    sides, notes = brought_down(size, SIZES[kind], least=LEAST)
    case = _calm(seed, frames, sides) if kind == "calm" else _world(kind, seed, frames, sides)
    case.pair.notes += [f"{name}: {note}" for note in notes]
    displacement = _displacement(case.pair)
    case.tags = {"displacement": displacement, "grade": grade(displacement)}
    return case


@lru_cache
def counting_seeds(kind: str, count: int, *, least: int = PIXELS) -> tuple[int, ...]:
    """The first `count` seeds with at least `least` actor pixels that are visible in both images.

    Source: `held_out.world_pairs`, without rendering: some 30 ms a seed.
    """
    seeds, seed = [], 0
    while len(seeds) < count:
        _, visible, parts = true_flow(_scene(kind, seed), 0, 1, size=SIZES[kind])
        if int((visible & (parts >= 0)).sum()) >= least:
            seeds.append(seed)
        seed += 1
    return tuple(seeds)


def grade(displacement: float) -> str:
    """One of "small", "medium" and "large", by the bounds above; a bound belongs to the larger grade."""
    return next((name for name, bound in BOUNDS.items() if displacement < bound), "large")


def _scene(kind: str, seed: int) -> Scene:
    return calm_scene(seed) if kind == "calm" else sample_scene(seed, hard=kind == "world")


def _world(kind: str, seed: int, frames: int, size: tuple[int, int]) -> Case:
    pair = render_pair(seed, size=size, hard=kind == "world", between=frames)
    return Case(pair, flow=_truth(_scene(kind, seed), frames, size), moving=moving_frames(pair))


def _calm(seed: int, frames: int, size: tuple[int, int]) -> Case:
    """Moving is what shows the actor in the true frame or in a keyframe: the ground of a calm scene stands still."""
    clip = world_clips(1, frames=frames + 2, size=size, first=seed)[0]
    actor = torch.cat([clip.parts(t) >= 0 for t in range(frames + 2)])
    flow = _truth(clip.scene, frames, size)
    (flow01, visible01), (flow10, visible10) = flow(0, frames + 1), flow(frames + 1, 0)
    pair = Pair(
        name=f"calm:{seed}",
        image0=clip.frames[:1],
        image1=clip.frames[-1:],
        frames=clip.frames,
        flow01=flow01,
        flow10=flow10,
        visible01=visible01,
        visible10=visible10,
        actor0=actor[:1],
        actor1=actor[-1:],
        caption=clip.caption,
    )
    moving = actor | actor[:1] | actor[-1:]
    return Case(pair, flow=flow, moving=moving, ground=empty_scene(clip), facing=float(clip.facing))


def _truth(scene: Scene, frames: int, size: tuple[int, int]) -> partial:
    """The case's `flow`; a partial, not a closure, so that a case can be sent to another process."""
    return partial(_flow, scene, torch.linspace(0, 1, frames + 2).tolist(), size)


def _flow(scene: Scene, times: list[float], size: tuple[int, int], start: int, end: int) -> tuple[Tensor, Tensor]:
    start, end = (check_int("frame", index, 0, len(times) - 1) for index in (start, end))
    flow, visible, _ = true_flow(scene, times[start], times[end], size=size)
    return flow, visible


def _displacement(pair: Pair) -> float:
    """Median length of the true flow on the visible actor pixels, in longer sides."""
    counted = pair.actor0 & pair.visible01
    if not counted.any():
        raise ValueError(f"{pair.name} shows no actor pixel in both images: take another seed, as world-bench does.")
    length = pair.flow01.square().sum(1, keepdim=True).sqrt()
    return float(length[counted].median()) / max(length.shape[-2:])


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"{name!r} is unknown: sets are world-bench, world-easy-bench and calm-bench, with the number of cases after a "
        "colon or without; cases are world:SEED, world-easy:SEED and calm:SEED, with a whole number."
    )
