"""Sweeps too long for a notebook: computed once, committed as small tables under data/results, spot-checked there.

A study is a module of this package with VERSION, a number to raise when its digits change; MODEL, "image" or "video";
ITEMS, a list of dictionaries of JSON values; and `measure(model, **item)`, which returns the rows of that item, a list
of dictionaries of names and numbers. Its docstring says what the columns are.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from interp_lib.bench.content_hash import content_hash, weights_hash
from interp_lib.bench.sweep import load_model, sweep
from interp_lib.bench.tables import RESULTS, load_results, round_digits, write_results
from interp_lib.models.folder import find_folder

STUDIES = ("ablations", "animation", "backward", "exchange", "features", "flow", "frequency", "fusion")
STUDIES += ("inbetweening", "precision", "precision_video", "suitability")


def recompute(study: str, model: Any, **item: Any) -> list[dict[str, Any]]:
    """Return the rows of one item of a study, measured now: what a notebook spot-checks its table with."""
    return [round_digits(item | row) for row in find_study(study).measure(model, **item)]


def compute(
    study: str, source: str = "embedded", *, out: Path = RESULTS, work: Path = Path("build/results"), workers: int = 1
) -> Path:
    """Measure all items of a study with a model and write its table to `out`; finished items in `work` are kept.

    source: as of `load_image_model` or `load_video_model`. workers: as of `sweep`.
    """
    module = find_study(study)
    find_folder(source, embedded=module.MODEL)
    depends_on = {"version": module.VERSION, "weights": {module.MODEL: weights_hash(module.MODEL, source)}}
    items = {content_hash(item): (study, source, item) for item in module.ITEMS}
    about = " ".join((module.__doc__ or "").split())
    folder = work / f"{study}-{content_hash(depends_on | {'about': about})}"  # items of other settings start anew
    rows = sum(sweep(_measure, items, folder, workers=workers, label=study), [])
    return write_results(out / f"{study}.json", {"about": about, "model": source, **depends_on}, rows)


def stale(study: str) -> str:
    """Return why the committed table of a study has to be computed again, or "" if it is fresh."""
    try:
        table = load_results(study)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    version = find_study(study).VERSION
    return "" if table.attrs["version"] == version else f"{study} is at version {version}, its table at another"


def find_study(study: str) -> ModuleType:
    """Return the module of a study; ValueError, with all names, for an unknown one."""
    if study not in STUDIES:
        raise ValueError(f"there is no study {study!r}: there are {', '.join(STUDIES)}")
    return import_module(f"{__name__}.{study}")


def _measure(study: str, source: str, item: dict[str, Any]) -> list[dict[str, Any]]:
    return recompute(study, load_model(find_study(study).MODEL, source), **item)
