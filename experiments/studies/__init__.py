"""Sweeps too long for a notebook: computed once, committed as small tables under data/results, spot-checked there.

A study is a function under `@study`, called as `measure(model, **item)`, that returns the rows of one item:
dictionaries of names and numbers. Its docstring says what the columns of the table are.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from interp_lib.bench.content_hash import content_hash, weights_hash
from interp_lib.bench.sweep import load_model, sweep
from interp_lib.bench.tables import RESULTS, load_results, round_digits, write_results
from interp_lib.models.folder import find_folder

STUDIES = {  # and the file of each
    "ablations": "ablations",
    "animation": "calm",
    "backward": "calm",
    "exchange": "exchange",
    "features": "features",
    "flow": "flow",
    "frequency": "fusion",
    "fusion": "fusion",
    "inbetweening": "calm",
    "precision": "precision",
    "precision_video": "precision",
    "suitability": "suitability",
}


@dataclass(frozen=True)
class Study:
    """A table of `data/results`. items: of JSON values. version: a number to raise when the digits change."""

    measure: Callable[..., list[dict[str, Any]]]
    model: str
    items: list[dict[str, Any]]
    version: int

    @property
    def about(self) -> str:
        return " ".join((self.measure.__doc__ or "").split())


def study(model: str, items: list[dict[str, Any]], *, version: int = 1) -> Callable[[Callable], Study]:
    """Make a study of a function; model: "image" or "video"."""
    return lambda measure: Study(measure, model, items, version)


def find_study(name: str) -> Study:
    """Return a study; ValueError, with all names, for an unknown one."""
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}: there are {', '.join(STUDIES)}")
    return getattr(import_module(f"{__name__}.{STUDIES[name]}"), name)


def recompute(name: str, model: Any, **item: Any) -> list[dict[str, Any]]:
    """Return the rows of one item of a study, measured now: what a notebook spot-checks its table with."""
    return [round_digits(item | row) for row in find_study(name).measure(model, **item)]


def compute(
    name: str, source: str = "embedded", *, out: Path = RESULTS, work: Path = Path("build/results"), workers: int = 1
) -> Path:
    """Measure all items of a study with a model and write its table to `out`; finished items in `work` are kept.

    source: as of `load_image_model` or `load_video_model`. workers: as of `sweep`.
    """
    found = find_study(name)
    find_folder(source, embedded=found.model)
    depends_on = {"version": found.version, "weights": {found.model: weights_hash(found.model, source)}}
    items = {content_hash(item): (name, source, item) for item in found.items}
    folder = work / f"{name}-{content_hash(depends_on | {'about': found.about})}"  # items of other settings start anew
    rows = sum(sweep(_measure, items, folder, workers=workers, label=name), [])
    return write_results(out / f"{name}.json", {"about": found.about, "model": source, **depends_on}, rows)


def _measure(name: str, source: str, item: dict[str, Any]) -> list[dict[str, Any]]:
    return recompute(name, load_model(find_study(name).model, source), **item)


def stale(name: str) -> str:
    """Return why the committed table of a study has to be computed again, or "" if it is fresh."""
    try:
        table = load_results(name)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    version = find_study(name).version
    return "" if table.attrs["version"] == version else f"{name} is at version {version}, its table at another"


def exit_code(work: Callable[[], None]) -> int:
    """Do the work of a command and return its exit code; a wrong input or an interruption is one sentence."""
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted; finished items are kept, run it again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
