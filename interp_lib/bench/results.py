"""Sweeps too long for a notebook: computed once, kept as small tables under data/results/, refused when stale.

A study is a module of `interp_lib.bench.studies` with VERSION, a number to raise when its digits change, ITEMS, a list
of dicts of JSON values, and
`measure(model, **item)`, which returns the rows of that item, a list of dicts of names and numbers.
`python -m interp_lib.bench.results` (`make results`) renews the tables that are stale. Every item is written as soon
as it is measured, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

if __name__ == "__main__":
    from interp_lib.interrupt import expect_interrupt

    expect_interrupt("interp_lib.bench.results: interrupted; finished items are kept, run it again to go on")

import hashlib
import json
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_lib.bench.fingerprint import LIBRARY, ROOT, weights_hash
from interp_lib.bench.pool import workers as start_workers
from interp_lib.cli_help import Parser
from interp_lib.files import atomic_write
from interp_lib.models.folder import find_folder

if TYPE_CHECKING:
    from interp_lib.models.image_model import ImageModel
    from interp_lib.models.video_model import VideoModel

TABLES = ROOT / "data" / "results"
Row = dict[str, Any]


@dataclass
class Results:
    """A table: what it is about, and its rows, each with the item's values and what was measured on it."""

    about: str
    rows: list[Row]

    def where(self, **values: Any) -> list[Row]:
        """The rows that have all these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in values.items())]

    def column(self, name: str, **values: Any) -> list[Any]:
        """One column of `where(**values)`."""
        return [row[name] for row in self.where(**values)]


def load_results(study: str, *, folder: Path = TABLES) -> Results:
    """The table of a study, as it was computed by this version of it on these weights.

    Raises FileNotFoundError where there is none and ValueError for one that another version or other weights made; both
    name the command that renews it.
    """
    path, renew = folder / f"{study}.json", f"run `python -m interp_lib.bench.results {study}` (or `make results`)"
    _module(study)
    if not path.is_file():
        raise FileNotFoundError(f"the table of {study} has not been computed: {renew}")
    table = json.loads(path.read_text(encoding="utf-8"))
    stale = [part for part, known in fingerprint(study).items() if table.get(part) != known]
    if stale:
        raise ValueError(f"the table of {study} was made with other {' and '.join(stale)}: {renew}")
    return Results(table["about"], [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]])


def recompute(study: str, model: ImageModel | VideoModel, **item: Any) -> list[Row]:
    """The rows of one item, measured now: what a notebook spot-checks its table with."""
    return [_plain({**item, **row}) for row in _module(study).measure(model, **item)]


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in (LIBRARY / "bench" / "studies").glob("[!_]*.py"))


def fingerprint(study: str) -> dict[str, int | str]:
    """Return what a table depends on: the version that its study declares, and the hash of the weights."""
    return {"version": _module(study).VERSION, "weights": weights_hash(_kind(study))}


def _module(study: str) -> Any:
    if study not in studies():
        raise ValueError(f"there is no study {study!r}: there are {', '.join(studies())}")
    return import_module(f"interp_lib.bench.studies.{study}")


def _kind(study: str) -> str:
    return getattr(_module(study), "MODEL", "image")


def _plain(row: Row) -> Row:
    return {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in row.items()}


def compute(
    study: str, source: str, *, out: Path = TABLES, work: Path = Path("build/results"), workers: int = 1
) -> Path:
    """Measure all items of a study with a model and write its table; items that a former run has done are kept.

    source: what `load_image_model` or, for a study of the video model, `load_video_model` takes. workers: processes,
    one thread each, so that their number changes no digit.
    """
    marks = fingerprint(study)
    find_folder(source, embedded=_kind(study))
    marks |= {"weights": weights_hash(_kind(study), source)}
    done = work / f"{study}-{hashlib.sha256(json.dumps(marks).encode()).hexdigest()[:12]}"
    done.mkdir(parents=True, exist_ok=True)
    items = _module(study).ITEMS
    missing = [k for k in range(len(items)) if not (done / f"{k}.json").exists()]
    with start_workers(max(1, workers), _prepare, source, _kind(study)) as submit:
        from tqdm.auto import tqdm

        for job in tqdm(submit(_measure, [(study, k, done) for k in missing]), desc=study):
            job.result()
    rows = [row for k in range(len(items)) for row in json.loads((done / f"{k}.json").read_text())]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    about = " ".join((_module(study).__doc__ or "").split())
    table = {"about": about, "model": source, **marks, "columns": columns}
    return _write(out / f"{study}.json", table | {"rows": [[row.get(name) for name in columns] for row in rows]})


def _write(path: Path, table: dict[str, Any]) -> Path:
    """A line a row."""
    lines = ",\n".join("  " + json.dumps(row) for row in table["rows"])
    head = json.dumps({name: value for name, value in table.items() if name != "rows"}, indent=1)[:-2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    return path


_model: Any = None  # of a worker process


def _prepare(source: str, kind: str) -> None:
    global _model
    from interp_lib.models import load_image_model, load_video_model

    _model = (load_video_model if kind == "video" else load_image_model)(source)


def _measure(study: str, index: int, done: Path) -> None:
    rows = recompute(study, _model, **_module(study).ITEMS[index])
    with atomic_write(done / f"{index}.json") as temporary:
        temporary.write_text(json.dumps(rows), encoding="utf-8")


def make_parser() -> Parser:
    examples = {
        "": "every stale table",
        "flow features --workers 1": "two of them, where they are stale",
        "flow --model path/to/model": "the same study of another model",
    }
    parser = Parser(prog="python -m interp_lib.bench.results", description="Renew stale tables.", examples=examples)
    parser.add_argument("studies", nargs="*", help=f"which (default: every stale one of {', '.join(studies())})")
    parser.add_argument("--model", default="embedded", help="tables of another model go to build/results")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser()
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.studies if name not in studies()]:
        parser.error(f"there is no study {unknown[0]!r}: there are {', '.join(studies())}")
    embedded = asked.model == "embedded"
    for study in asked.studies or studies():
        try:
            if embedded and load_results(study):
                print(f"{study}: fresh")
                continue
        except (FileNotFoundError, ValueError):
            pass
        try:
            out = TABLES if embedded else Path("build/results")
            print(f"{study}: {compute(study, asked.model, out=out, workers=asked.workers)}")
        except (ValueError, OSError, BrokenProcessPool) as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
