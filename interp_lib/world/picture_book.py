"""Scenes of the picture-book world: few things, known well, and motion that the first frame does not settle.

Two kinds of scene share one body: pairs, whose two keyframes show everything that is needed to draw the middle, and
clips, whose path, pace and gait must be agreed on by all frames.
"""

import numpy as np
import torch

from interp_lib.checks import check_int
from interp_lib.world.breeds import BREEDS, breed_coat, random_coat
from interp_lib.world.rig import KINDS, MAX_PARTS
from interp_lib.world.scene import ACTORS, GROUND_COLOURS, WAVES, Scene

LENGTH = (0.5, 0.67)  # of an actor, in shorter sides
QUARTER = np.pi / 2
FACING = ("walker", "bird", "fish")  # whose front is seen at 64 px; a car or a biped looks the same both ways there


def sample_pair(
    seed: int, *, stranger: bool = False, displacement: float | tuple[float, float] | None = None, hard: bool = True
) -> Scene:
    """Draw the scene of a pair of keyframes; the middle of the path lies in the middle of the frame.

    stranger: coats drawn at random instead of a breed's. displacement: distance travelled from time 0 to 1 in shorter
    sides, or its range (default 0.15 to 0.4). hard: with rotation, growth, moving limbs, camera pan and a change of
    light; otherwise objects only travel. Limbs stay within a quarter of a cycle, in which the way from one pose to the
    other is nearly straight and no leg passes the other.
    """
    rng = np.random.default_rng([check_int("seed", seed, 0), 40 + stranger])
    low, high = (0.15, 0.4) if displacement is None else np.broadcast_to(displacement, 2)
    count = 2 if rng.random() < 0.1 else 1
    drawn = []
    for index in range(ACTORS):
        kind = str(rng.choice(list(BREEDS)))
        gait = rng.uniform(0.1, 0.22) * hard
        phase = rng.uniform(0.02, QUARTER - 2 * np.pi * gait - 0.02) + QUARTER * rng.integers(4)
        actor = _actor(rng, kind, travel=rng.uniform(low, high), shrink=1.0 if count == 1 else 0.6)
        actor |= {"turn": rng.uniform(-0.4, 0.4) * hard, "growth": rng.uniform(-0.25, 0.25) * hard, "gait": gait}
        actor["log_scale"] -= 0.5 * actor["growth"]
        climb, tilt = actor["climb"], actor["tilt"]
        centre = (0.5, 0.52) if count == 1 else (0.5, (0.3, 0.74)[index])
        x, y = np.add(centre, rng.uniform(-0.06, 0.06, 2))
        actor["x"] = x - 0.5 * actor["facing"] * actor["travel"] * np.cos(tilt)
        actor["y"] = y - 0.5 * actor["travel"] * (climb + np.sin(tilt) * actor["facing"])
        drawn.append((actor, *_body(rng, kind, phase, stranger, hard, present=index < count)))
    camera, light = rng.uniform(-0.06, 0.06, 2) * hard, 1 + rng.uniform(-0.15, 0.15, 2) * hard
    return _scene(rng, drawn, count, camera, light)


def sample_clip(
    seed: int, *, stranger: bool = False, travel: tuple[float, float] = (0.15, 0.35), ball: bool = False
) -> Scene:
    """Draw the scene of a clip: one object that moves the way it faces, whatever its starting place.

    travel: range of the distance from time 0 to 1. The first frame does not show the arc above or below the straight
    path, nor whether the pace is slow or fast at first, nor the speed of the gait. ball: a ball that rolls to the right
    or to the left.
    """
    rng = np.random.default_rng([check_int("seed", seed, 0), 50 + stranger])
    kind = "ball" if ball else str(rng.choice(FACING))
    actor = _actor(rng, kind, travel=rng.uniform(*travel), shrink=1.0)
    actor |= {"gait": rng.uniform(0.5, 1.5), "arc": rng.uniform(-0.16, 0.16), "pace": rng.uniform(-0.8, 0.8)}
    actor |= {"x": rng.uniform(0.38, 0.62), "y": rng.uniform(0.4, 0.62), "tilt": rng.uniform(-0.12, 0.12)}
    parts, patterns, words = _body(rng, kind, rng.uniform(0, 2 * np.pi), stranger, True, present=True)
    absent = parts * (np.arange(12) < 11)  # the last column says which parts are there
    drawn = [(actor, parts, patterns, words), (actor, absent, patterns, words)]
    return _scene(rng, drawn, 1, np.zeros(2), np.ones(2))


def _actor(rng: np.random.Generator, kind: str, *, travel: float, shrink: float) -> dict[str, float]:
    """Where an object is and how it moves; what a scene does not use stays zero."""
    scale = rng.uniform(*LENGTH) * shrink / (2.4 if kind == "ball" else extent(kind))
    still = dict.fromkeys(("x", "y", "growth", "turn", "gait", "arc", "pace"), 0.0)
    climb = rng.uniform(-0.25, 0.25) * (kind in ("bird", "fish"))
    facing, tilt = rng.choice([-1.0, 1.0]), rng.uniform(-0.2, 0.2)
    return still | {"facing": facing, "log_scale": np.log(scale), "tilt": tilt, "travel": travel, "climb": climb}


def extent(kind: str) -> float:
    """The longer side of a kind's bounding box at rest, in units of half a body."""
    corners = []
    for part in KINDS[kind]:
        c, s = np.cos(part.angle), np.sin(part.angle)
        rotation = np.array([[c, -s], [s, c]])
        centre = np.add(part.joint, rotation @ part.centre)
        reach = np.abs(rotation) @ part.half
        corners += [centre - reach, centre + reach]
    return float(np.ptp(np.array(corners), axis=0).max())


def _body(
    rng: np.random.Generator, kind: str, phase: float, stranger: bool, rolls: bool, *, present: bool
) -> tuple[np.ndarray, np.ndarray, str]:
    """Proportions jittered by up to a tenth, and a coat: parts, patterns and the words for the caption."""
    parts, patterns = np.zeros((MAX_PARTS, 12)), np.zeros((MAX_PARTS, 10))
    parts[:, :2] = 1.0  # absent parts keep a valid size
    stretch = rng.uniform(0.9, 1.1, 2)
    breeds = BREEDS.get(kind)
    breed = str(rng.choice(list(breeds))) if breeds else ""
    coat, words = (breed_coat(kind, breed), breed) if breeds and not stranger else random_coat(rng, kind)
    for row, part in enumerate(KINDS[kind]):
        half = np.array(part.half) * (1.0 if part.half[0] == part.half[1] else stretch)
        shape = [*half, *np.multiply(part.joint, stretch), *np.multiply(part.centre, stretch), part.angle, part.swing]
        parts[row] = [*shape, part.phase + phase, part.rolls and rolls, part.square, present]
        patterns[row] = coat[part.slot]
    return parts, patterns, f"{words} {kind}"


def _ground(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One of five calm grounds: two colours across a horizon, and soft waves over them."""
    place = str(rng.choice(list(GROUND_COLOURS)))
    colours = np.clip(np.array(GROUND_COLOURS[place]) + rng.uniform(-0.04, 0.04, (2, 3)), 0.02, 0.98)
    frequency = 2 * np.pi * np.exp(rng.uniform(np.log(0.5), np.log(3.0), WAVES))
    angle, strength = rng.uniform(0, np.pi, WAVES), rng.uniform(0.0, 0.02, WAVES)
    waves = np.stack([frequency * np.cos(angle), frequency * np.sin(angle), rng.uniform(0, 6.28, WAVES), strength])
    return np.concatenate([colours.ravel(), waves.ravel(), [-1.0, 1.0, 0.0, 0.0, 0.0]]), place


def _scene(rng: np.random.Generator, drawn: list, count: int, camera: np.ndarray, light: np.ndarray) -> Scene:
    names = ("x", "y", "facing", "log_scale", "tilt", "travel", "climb", "growth", "turn", "gait")
    actors = [[a[n] for n in names] + [i < count, a["arc"], a["pace"]] for i, (a, *_) in enumerate(drawn)]
    ground, place = _ground(rng)
    words = [
        f"a {said}" + ("" if "ball" in said else f" facing {'right' if actor['facing'] > 0 else 'left'}")
        for actor, _, _, said in drawn[:count]
    ]
    arrays = (actors, np.zeros(len(drawn)), [d[1] for d in drawn], [d[2] for d in drawn], ground, camera, light)
    tensors = (torch.tensor(np.asarray(a, dtype=np.float64), dtype=torch.float32)[None] for a in arrays)
    return Scene(*tensors, [" and ".join(words) + f", on {place}"])
