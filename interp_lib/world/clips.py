"""Calm scenes for clips: one large actor on a plain ground, or a ball that rolls either way."""

from dataclasses import replace
from itertools import count

import torch

from interp_lib.world.rig import KINDS
from interp_lib.world.scene import Scene, sample_scene

FACING = ("walker", "bird", "fish")  # whose front is seen at 64 px; a car or a biped looks the same both ways there
STRIDE = 10**9  # from a seed whose actor is another to the next one that is tried
BODY, ACCENT = 3, 2  # whose patterns a ball takes over: rows of an actor's table of parts


def calm_scene(seed: int, *, travel: tuple[float, float] = (0.15, 0.4), ball: bool = False) -> Scene:
    """One calm scene of a single actor that moves the way it faces; where it starts is independent of that.

    travel: range of the distance from time 0 to 1, in sides. ball: the actor becomes a ball in its colours, which rolls
    to the right or to the left, so that its first frame does not tell the direction.
    """
    drawn = (sample_scene(seed + k * STRIDE, calm=True, start=True, displacement=travel) for k in count())
    scene = next(s for s in drawn if actor_kind(s) in FACING)
    scene = replace(scene, **{name: getattr(scene, name)[:, :1] for name in ("actors", "fall", "parts", "patterns")})
    if not ball:
        return scene
    patterns = scene.patterns[0, 0].clone()
    scene.parts[0, 0, :, 11] = 0.0
    for row, (part, pattern) in enumerate(zip(KINDS["ball"], (BODY, ACCENT), strict=True)):
        shape = [*part.half, *part.joint, *part.centre, part.angle, part.swing]
        scene.parts[0, 0, row] = torch.tensor([*shape, 0.0, 1.0, 0.0, 1.0])  # phase, rolls, square, present
        scene.patterns[0, 0, row] = patterns[pattern]
    return replace(scene, captions=["a ball, on" + scene.captions[0].split(", on")[-1]])


def actor_kind(scene: Scene) -> str:
    """What the first actor of a scene is, as its caption says."""
    return next(word for word in scene.captions[0].replace(",", " ").split() if word in KINDS)
