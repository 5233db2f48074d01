"""World-bench and calm-bench: rendered cases whose truth is known at every moment, from seeds that no training saw.

Grades: `tags["displacement"]` is the median length of the true flow from the first image to the last over the object's
pixels visible in both, in longer sides. On the first 60 seeds of the hard world at 128 px it runs from 0.135 to 0.486
with terciles at 0.246 and 0.316, to which the bounds are rounded.
"""

import re
from functools import lru_cache, partial
from itertools import count as count_from
from itertools import islice

import torch
from torch import Tensor

from interp_lib.bench.cases import Case, Size, moving_frames, round_down
from interp_lib.bench.motion import world_ground
from interp_lib.types import Pair
from interp_lib.world import render_pair
from interp_lib.world.clips import calm_scene
from interp_lib.world.scene import sample_scene
from interp_lib.world.truth import LEAST, pair_of, true_flow

SCENES = {"world": sample_scene, "world-easy": partial(sample_scene, hard=False), "calm": calm_scene}  # by seed
SIZES = {"world": 128, "world-easy": 128, "calm": 64}  # px, the natural sizes of the embedded image and video model
COUNT = 60  # cases of a set: the smallest grade of the three keeps at least 16
PIXELS = 32  # object pixels visible in both images that a seed needs
BOUNDS = {"small": 0.25, "medium": 0.32}  # longer sides; from the last bound on it is "large"


def list_names(spec: str) -> list[str]:
    """Return names with explicit seeds, "world:0", "world:1", ...: those of N cases begin those of more."""
    kind, colon, number = spec.partition(":")
    if kind in SCENES and re.fullmatch("0|[1-9][0-9]*", number):
        return [spec]
    if not kind.endswith("-bench") or (colon and not re.fullmatch("[1-9][0-9]*", number)):
        sets = "sets are world-bench, world-easy-bench and calm-bench, with or without the number of cases"
        rule = f"{sets}, as in world-bench:50; cases are world:SEED, world-easy:SEED and calm:SEED"
        raise ValueError(f"{spec!r} is unknown: {rule}.")
    kind = kind.removesuffix("-bench")
    return [f"{kind}:{seed}" for seed in counting_seeds(kind, int(number or COUNT))]


def load(name: str, *, frames: int, size: Size) -> Case:
    """Return the case of one seed, rendered at `size`; its flow is exact between any two of its frames."""
    kind, _, seed = name.partition(":")
    if kind not in SCENES or list_names(name) != [name]:
        raise ValueError(f"{name!r} is no case: cases are world:SEED, world-easy:SEED and calm:SEED.")
    size, notes = round_down(SIZES[kind] if size is None else size, least=LEAST)
    scene, times = SCENES[kind](int(seed)), torch.linspace(0, 1, frames + 2).tolist()
    pair = pair_of(scene, name, size=size, between=frames)
    pair.notes = [f"{name}: {note}" for note in notes]
    counted = pair.actor0 & pair.visible01
    if not counted.any():
        raise ValueError(f"{name} shows no object pixel in both images: take another seed, as world-bench does.")
    displacement = float(pair.flow01.square().sum(1, keepdim=True).sqrt()[counted].median()) / max(size)

    def flow(start: int, end: int) -> tuple[Tensor, Tensor]:
        return true_flow(scene, times[start], times[end], size=size)[:2]

    case = Case(pair, flow=flow, tags={"displacement": displacement, "grade": grade(displacement)})
    if kind == "calm":  # the background stands still, so what moves is the object, here or in a keyframe
        objects = torch.cat([true_flow(scene, t, t, size=size)[2] >= 0 for t in times])
        case.moving = objects | objects[:1] | objects[-1:]
        case.ground, case.facing = world_ground(scene, size), float(scene.actors[0, 0, 2])
    else:
        case.moving = moving_frames(pair)
    return case


@lru_cache
def counting_seeds(kind: str, count: int, *, least: int = PIXELS) -> tuple[int, ...]:
    """Return the first `count` seeds with at least `least` object pixels visible in both images (some 30 ms a seed)."""

    def counts(seed: int) -> bool:
        _, visible, parts = true_flow(SCENES[kind](seed), 0, 1, size=SIZES[kind])
        return int((visible & (parts >= 0)).sum()) >= least

    return tuple(islice(filter(counts, count_from()), count))


def world_pairs(count: int, *, first: int = 0, hard: bool = True, size: int = 128, between: int = 0) -> list[Pair]:
    """Render the first `count` pairs from seed `first` on that show enough of the object, by the rule above."""
    pairs = (render_pair(seed, size=size, hard=hard, between=between) for seed in count_from(first))
    return list(islice((pair for pair in pairs if (pair.visible01 & pair.actor0).sum() >= PIXELS), count))


def grade(displacement: float) -> str:
    """Return "small", "medium" or "large", by the bounds above; a bound belongs to the larger grade."""
    return next((name for name, bound in BOUNDS.items() if displacement < bound), "large")
