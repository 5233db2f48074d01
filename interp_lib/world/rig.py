"""What the actors are made of: one table of parts per kind, drawn facing right, y pointing down, in units of half a
body.

A part is a superellipse that hangs at a joint of its actor and swings about it; wheels roll instead. Parts that share a
joint and a swing move as one rigid body (a head with its eye and ear). Order in the table is paint order: the first
part is the farthest.
"""

from dataclasses import dataclass

SLOTS = ("body", "head", "limb", "accent", "eye")  # parts of one slot share a pattern and its two colours


@dataclass(frozen=True)
class Part:
    """One rigid part: half-axes, joint (actor frame), centre (relative to the joint), rest angle, swing, what it looks
    like."""

    name: str
    half: tuple[float, float]
    joint: tuple[float, float] = (0.0, 0.0)
    centre: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    swing: float = 0.0  # radians, amplitude
    phase: float = 0.0  # radians, within the gait
    rolls: bool = False  # a wheel of radius half[0]: turns by travelled distance / radius
    square: bool = False  # exponent 4 (a rounded box) instead of 2 (an ellipse)
    slot: str = "body"


PI = 3.141592653589793


def _leg(x: float, y: float, width: float, length: float, phase: float, swing: float, name: str) -> Part:
    return Part(name, (width, length), (x, y), (0.0, 0.85 * length), 0.0, swing, phase, square=True, slot="limb")


WALKER = (
    _leg(-0.6, 0.25, 0.15, 0.46, PI, 0.45, "far hind leg"),
    _leg(0.6, 0.25, 0.15, 0.46, 0.0, 0.45, "far fore leg"),
    Part("tail", (0.5, 0.1), (-0.9, -0.1), (-0.42, 0.0), 0.5, 0.35, 0.7, slot="accent"),
    Part("body", (1.0, 0.52)),
    Part("ear", (0.14, 0.28), (0.85, -0.25), (0.12, -0.58), -0.3, 0.12, 0.3, slot="accent"),
    Part("head", (0.46, 0.36), (0.85, -0.25), (0.3, -0.22), 0.0, 0.12, 0.3, slot="head"),
    Part("eye", (0.09, 0.09), (0.85, -0.25), (0.45, -0.3), 0.0, 0.12, 0.3, slot="eye"),
    _leg(-0.6, 0.3, 0.16, 0.48, 0.0, 0.45, "near hind leg"),
    _leg(0.6, 0.3, 0.16, 0.48, PI, 0.45, "near fore leg"),
)
BIPED = (
    Part("far arm", (0.12, 0.46), (0.05, -0.5), (0.0, 0.38), 0.0, 0.7, PI, square=True, slot="limb"),
    _leg(0.0, 0.45, 0.17, 0.52, 0.0, 0.55, "far leg"),
    _leg(0.0, 0.45, 0.17, 0.52, PI, 0.55, "near leg"),
    Part("torso", (0.42, 0.62), square=True),
    Part("nose", (0.16, 0.1), (0.0, -0.6), (0.38, -0.3), 0.0, 0.08, 0.5, slot="accent"),
    Part("head", (0.38, 0.38), (0.0, -0.6), (0.04, -0.34), 0.0, 0.08, 0.5, slot="head"),
    Part("eye", (0.08, 0.1), (0.0, -0.6), (0.2, -0.4), 0.0, 0.08, 0.5, slot="eye"),
    Part("hat", (0.42, 0.12), (0.0, -0.6), (0.02, -0.68), 0.0, 0.08, 0.5, square=True, slot="accent"),
    Part("near arm", (0.13, 0.48), (-0.02, -0.48), (0.0, 0.4), 0.0, 0.7, 0.0, square=True, slot="limb"),
)
CAR = (
    Part("cabin", (0.62, 0.36), (-0.15, -0.5), square=True, slot="head"),
    Part("window", (0.22, 0.2), (0.12, -0.52), square=True, slot="eye"),
    Part("body", (1.15, 0.38), square=True),
    Part("light", (0.11, 0.13), (1.05, -0.08), slot="accent"),
    Part("bumper", (0.1, 0.2), (-1.12, 0.12), square=True, slot="accent"),
    Part("rear wheel", (0.36, 0.36), (-0.65, 0.36), rolls=True, slot="limb"),
    Part("front wheel", (0.36, 0.36), (0.65, 0.36), rolls=True, slot="limb"),
    Part("rear hub", (0.11, 0.11), (-0.65, 0.36), rolls=True, slot="accent"),
    Part("front hub", (0.11, 0.11), (0.65, 0.36), rolls=True, slot="accent"),
)
BIRD = (
    Part("far wing", (0.28, 0.62), (0.0, -0.1), (-0.08, -0.5), -0.35, 0.7, 0.4, slot="limb"),
    Part("tail", (0.42, 0.16), (-0.7, 0.0), (-0.3, 0.0), 0.25, 0.2, 0.0, square=True, slot="accent"),
    Part("body", (0.85, 0.42)),
    Part("beak", (0.26, 0.1), (0.7, -0.2), (0.42, -0.02), 0.1, 0.1, 1.0, slot="accent"),
    Part("head", (0.34, 0.32), (0.7, -0.2), (0.12, -0.1), 0.0, 0.1, 1.0, slot="head"),
    Part("eye", (0.08, 0.08), (0.7, -0.2), (0.2, -0.17), 0.0, 0.1, 1.0, slot="eye"),
    Part("near wing", (0.3, 0.66), (-0.05, -0.05), (-0.1, -0.5), -0.2, 0.8, 0.0, slot="limb"),
)
FISH = (
    Part("upper tail", (0.42, 0.17), (-0.8, 0.0), (-0.34, 0.0), 0.55, 0.4, 0.0, slot="limb"),
    Part("lower tail", (0.42, 0.17), (-0.8, 0.0), (-0.34, 0.0), -0.55, 0.4, 0.0, slot="limb"),
    Part("back fin", (0.4, 0.24), (-0.05, -0.42), (0.0, -0.08), 0.2, 0.15, 1.0, slot="accent"),
    Part("body", (1.0, 0.5)),
    Part("face", (0.34, 0.34), (0.6, 0.0), slot="head"),
    Part("eye", (0.1, 0.1), (0.68, -0.12), slot="eye"),
    Part("side fin", (0.3, 0.14), (0.15, 0.1), (-0.22, 0.06), -0.5, 0.5, 0.5, slot="accent"),
)
BALL = (
    Part("ball", (0.7, 0.7), rolls=True),
    Part("dot", (0.25, 0.25), (0.0, 0.0), (0.3, 0.0), rolls=True, slot="accent"),
)
KINDS = {"walker": WALKER, "biped": BIPED, "car": CAR, "bird": BIRD, "fish": FISH, "ball": BALL}
MAX_PARTS = max(len(parts) for parts in KINDS.values())
