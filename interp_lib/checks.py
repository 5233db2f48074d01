"""Checks of arguments: each raises one sentence that names what was given, the rule and the way out."""

import math
import operator
from collections.abc import Sequence

from torch import Tensor


def check_int(name: str, value: int, low: int, high: int | None = None, high_name: str = "") -> int:
    """Return `value` as an int (NumPy's integers too, no bool); ValueError unless it lies in [low, high]."""
    most = "" if high is None else f" and at most {f'{high_name} = ' if high_name else ''}{high}"
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name}={_shown(value)} is out of range: give a whole number of at least {low}{most}.")
    return number


def check_number(
    name: str, value: float, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> float:
    """Return `value` as a float (no text, no bool); ValueError unless it is finite, in [low, high] or above low."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        least = f" above {low:g}" if above else f" of at least {low:g}" if low > -math.inf else ""
        most = f"{' and' if least else ' of'} at most {high:g}" if high < math.inf else ""
        raise ValueError(f"{name}={_shown(value)} is out of range: give a finite number{least}{most}.")
    return number


def check_switch(name: str, value: object) -> None:
    """Raise ValueError unless value is True or False: the text "no" would pass for True."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={_shown(value)} is no switch: give True or False.")


def check_tensors(**arguments: object) -> None:
    """Raise ValueError for the first of the named arguments that is no tensor."""
    for name, x in arguments.items():
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is of type {type(x).__name__}: give a tensor, torch.as_tensor makes one.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={_shown(value)} is unknown: choose one of {', '.join(map(repr, choices))}.")


def check_size(name: str, size: int | tuple[int, int], least: int) -> tuple[int, int]:
    """Return (height, width) of a size in pixels, given as one number for a square or as (height, width)."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"{name}={_shown(size)}: give one number of pixels, or (height, width).")
    height, width = (check_int(name, side, least) for side in sides)
    return height, width


def _shown(value: object) -> str:
    """Return the value as text, on one line and not a whole tensor."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:100]}..."
