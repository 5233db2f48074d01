"""A scene is a small set of parameters drawn from one seed; everything else (pose, picture, truth) is a function of it
and of time.

Lengths are in units of the shorter image side, the unit square is centred in the frame, y points down, time runs from 0
to 1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.world.breeds import COLOURS, PATTERNS
from interp_lib.world.rig import KINDS, MAX_PARTS, SLOTS
from interp_lib.world.textures import PHOTOGRAPHS

GROUND_COLOURS = {
    "a meadow": ((0.55, 0.75, 0.9), (0.35, 0.6, 0.25)),
    "sand": ((0.8, 0.85, 0.9), (0.85, 0.75, 0.52)),
    "water": ((0.3, 0.6, 0.75), (0.1, 0.35, 0.55)),
    "a plain wall": ((0.75, 0.72, 0.68), (0.7, 0.68, 0.64)),
    "hills": ((0.7, 0.8, 0.92), (0.42, 0.5, 0.36)),
}
WAVES = 6
ACTORS = 2


@dataclass
class Scene:
    """A batch of B scenes. A = 2 actors (the second may be absent), P parts each, S pattern slots; all tensors lead
    with B."""

    actors: Tensor  # [B,A,13] x, y, facing, log scale, tilt, travel, climb, growth, turn, gait, present, arc, pace
    fall: Tensor  # [B,A] downward acceleration (only balls)
    parts: Tensor  # [B,A,P,12] half axes, joint, centre (x, y each), angle, swing, phase, rolls, square, present
    patterns: Tensor  # [B,A,P,10] colour 0 (3), colour 1 (3), pattern index, frequency, angle, offset
    ground: Tensor  # [B,6+4*W+5] two colours, plane waves, then photograph index (-1: none), zoom, x, y, angle
    camera: Tensor  # [B,2] pan over the unit of time
    light: Tensor  # [B,2] gain at time 0 and at time 1
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)


def sample_scene(
    seed: int,
    *,
    hard: bool = True,
    displacement: float | tuple[float, float] | None = None,
    calm: bool = False,
    start: bool = False,
) -> Scene:
    """Draw one scene from a seed.

    hard: travel comes with turn, growth, gait, rolling wheels, falling, camera pan and a change of light; otherwise
    actors only travel.
    displacement: distance travelled from time 0 to 1, in shorter sides, or its range; default 0.15 to 0.4.
    calm: plain grounds and one large actor. start: the *start* is uniform whatever the facing (clips: position must not
    give the direction away); otherwise the middle of the path is, so that both ends stay inside the frame (pairs).
    """
    rng = np.random.default_rng([check_int("seed", seed, 0), 20])
    low, high = (0.15, 0.4) if displacement is None else np.broadcast_to(displacement, 2)
    count = 1 if calm or rng.random() < 0.75 else 2
    actors, falls, parts, patterns, words = [], [], [], [], []
    for index in range(ACTORS):
        kind = _kind(rng, index)
        actor, fall = _motion(
            rng, kind, present=index < count, alone=count == 1, travel=(low, high), hard=hard, start=start, calm=calm
        )
        part, pattern, word = _body(rng, kind, present=index < count, hard=hard)
        actors.append(actor), falls.append(fall), parts.append(part), patterns.append(pattern)
        if index < count:
            words.append(f"a {word}" + ("" if kind == "ball" else f" facing {'right' if actor[2] > 0 else 'left'}"))
    ground, place = _ground(rng, calm)
    camera = rng.uniform(-0.08, 0.08, 2) * (hard and not calm)
    light = 1 + rng.uniform(-0.2, 0.2, 2) * (hard and not calm)
    caption = " and ".join(words) + f", on {place}"
    arrays = (actors, falls, parts, patterns, ground, camera, light)
    return Scene(*(torch.tensor(np.asarray(a), dtype=torch.float32)[None] for a in arrays), [caption])


def stack(scenes: list[Scene]) -> Scene:
    """Join scenes into one batch."""
    fields = ("actors", "fall", "parts", "patterns", "ground", "camera", "light")
    tensors = (torch.cat([getattr(s, name) for s in scenes]) for name in fields)
    return Scene(*tensors, [caption for s in scenes for caption in s.captions])


def _kind(rng: np.random.Generator, index: int) -> str:
    """What the actor is; only a second one may be a ball."""
    names = list(KINDS)
    weights = np.array([0.25, 0.2, 0.2, 0.15, 0.2, 0.0 if index == 0 else 0.25])
    return str(rng.choice(names, p=weights / weights.sum()))


def _motion(
    rng: np.random.Generator,
    kind: str,
    *,
    present: bool,
    alone: bool,
    travel: tuple[float, float],
    hard: bool,
    start: bool,
    calm: bool,
) -> tuple[list[float], float]:
    """Where an actor is and how it moves; it always moves where it faces (balls fall instead)."""
    facing = rng.choice([-1.0, 1.0])
    scale = rng.uniform(0.17, 0.21) if calm else rng.uniform(0.16, 0.25) * (1.0 if alone else 0.75)
    travel = rng.uniform(*travel)
    tilt = rng.uniform(-0.2, 0.2)
    turn = rng.uniform(-0.5, 0.5) if hard and not calm else 0.0
    growth = rng.uniform(-0.28, 0.28) if hard and not calm else 0.0
    gait = rng.uniform(1.5, 3.5) if hard else 0.0  # swings over the unit of time; 0 freezes the limbs
    climb = rng.uniform(-0.25, 0.25) * (kind in ("bird", "fish"))
    x, y = rng.uniform(0.28, 0.72), rng.uniform(0.4, 0.65)
    fall = 0.0
    if kind == "ball":
        scale, facing, y, fall, growth, turn = scale * 0.6, 1.0, rng.uniform(0.05, 0.4), rng.uniform(0.5, 1.2), 0.0, 0.0
        travel = rng.uniform(0.0, 0.15)
    if not start:  # keep the middle of the path in the middle of the frame
        x -= 0.5 * facing * travel * np.cos(tilt)
        y -= 0.5 * travel * (climb + np.sin(tilt) * facing)
    return [x, y, facing, np.log(scale), tilt, travel, climb, growth, turn, gait, float(present), 0.0, 0.0], fall * hard


def _body(rng: np.random.Generator, kind: str, *, present: bool, hard: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Proportions jittered by up to a tenth, one pattern per slot; returns parts, patterns and the words for the
    caption."""
    parts, patterns = np.zeros((MAX_PARTS, 12)), np.zeros((MAX_PARTS, 10))
    parts[:, :2] = 1.0  # absent parts keep a valid size
    phase = rng.uniform(0, 2 * np.pi)
    stretch = rng.uniform(0.9, 1.1, 2)
    slots, main = {}, ""
    for slot in SLOTS:
        slots[slot], words = _pattern(rng, slot)
        main = words if slot == "body" else main
    for row, part in enumerate(KINDS[kind]):
        half = np.array(part.half) * (1.0 if part.half[0] == part.half[1] else stretch)
        shape = [*half, *np.multiply(part.joint, stretch), *np.multiply(part.centre, stretch), part.angle, part.swing]
        parts[row] = [*shape, part.phase + phase, part.rolls and hard, part.square, present]
        patterns[row] = slots[part.slot]
    return parts, patterns, f"{main} {kind}"


def _pattern(rng: np.random.Generator, slot: str) -> tuple[list[float], str]:
    first, second = rng.choice(list(COLOURS), 2, replace=False)
    index = int(rng.choice(4, p=[0.22, 0.38, 0.2, 0.2]))
    if slot == "eye":
        first, second, index = ("black", "white", 0) if rng.random() < 0.7 else ("white", "black", 0)
    colours = [np.clip(np.add(COLOURS[str(c)], rng.uniform(-0.08, 0.08, 3)), 0.02, 0.98) for c in (first, second)]
    style = [index, rng.uniform(5.0, 10.0), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)]
    return [*colours[0], *colours[1], *style], f"{PATTERNS[index]} {first}"


def _ground(rng: np.random.Generator, calm: bool) -> tuple[np.ndarray, str]:
    """Two colours across a horizon, plane waves over them; or a photograph."""
    place = str(rng.choice(list(GROUND_COLOURS)))
    colours = np.clip(np.array(GROUND_COLOURS[place]) + rng.uniform(-0.1, 0.1, (2, 3)), 0.02, 0.98)
    frequency = 2 * np.pi * np.exp(rng.uniform(np.log(0.5), np.log(3.0 if calm else 9.0), WAVES))
    angle = rng.uniform(0, np.pi, WAVES)
    strength = rng.uniform(0.0, 0.02 if calm else 0.05, WAVES)
    waves = np.stack([frequency * np.cos(angle), frequency * np.sin(angle), rng.uniform(0, 6.28, WAVES), strength])
    photo = [-1.0, 1.0, 0.0, 0.0, 0.0]
    if not calm and rng.random() < 0.5:
        which = int(rng.integers(len(PHOTOGRAPHS)))
        place = list(PHOTOGRAPHS.values())[which]
        photo = [which, rng.uniform(0.35, 0.9), rng.random(), rng.random(), rng.uniform(-0.3, 0.3)]
    return np.concatenate([colours.ravel(), waves.ravel(), photo]), place
