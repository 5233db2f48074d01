"""Arguments that do not fit are answered with one sentence: what was given, the rule, the way out."""

from __future__ import annotations

import operator
from collections.abc import Sequence


def check_int(name: str, value: int, low: int, high: int | None = None, high_name: str = "") -> int:
    """`value` as an int (NumPy's integers too, no bool); ValueError unless it lies in [low, high]."""
    most = "" if high is None else f" and at most {f'{high_name} = ' if high_name else ''}{high}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{name}={value!r} is out of range: give a whole number of at least {low}{most}.")
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """ValueError unless value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is unknown: choose one of {', '.join(map(repr, choices))}.")


def check_size(name: str, size: int | tuple[int, int], least: int) -> tuple[int, int]:
    """(height, width) of a size in pixels, given as one number for a square or as (height, width)."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"{name}={size!r}: give one number of pixels, or (height, width).")
    height, width = (check_int(name, side, least) for side in sides)
    return height, width
