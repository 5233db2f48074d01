"""`python -m interp_lib.bench.tables` (`make bench-tables`): the papers' tables, remade where the truth is known."""

from __future__ import annotations

if __name__ == "__main__":
    from interp_lib.interrupt import expect_interrupt

    expect_interrupt("interp_lib.bench.tables: interrupted; finished items are kept, run it again to go on")

import argparse
import json
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp_lib.bench.methods import METHODS, find_method
from interp_lib.bench.pooled import NETS, set_distances
from interp_lib.bench.results import TABLES as RESULTS
from interp_lib.bench.results import Results, Row
from interp_lib.bench.runner import benchmark, plan
from interp_lib.bench.summary import as_text, summarise
from interp_lib.bench.work import Item, Settings
from interp_lib.cli_help import Parser
from interp_lib.files import atomic_write

PUBLISHED = RESULTS / "bench"
CONTROLS = ["truth", "shuffled"]


@dataclass(frozen=True)
class Table:
    """A table: which methods on which cases, how, and which measures are printed. size: None is the data set's own."""

    about: str
    methods: list[str]
    cases: str | list[str]
    frames: int
    columns: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    size: int | None = None

    def plan(self) -> tuple[list[Item], Settings]:
        """Its items as they are made with the embedded models."""
        return plan(self.methods, self.cases, frames=self.frames, size=self.size, settings=self.settings)


SIMPLE = ["nearest keyframe", "cross-dissolve", "classical flow", "RIFE"]
DIFFUSION = ["latent lerp", "latent slerp", "direct fusion", "DiffInterp", "DiffMorpher", "DreamMover"]
IMAGE = [*CONTROLS, *SIMPLE, *DIFFUSION]
PARTS = ["truth", "DreamMover", *(name for name in METHODS if name.startswith("DreamMover w/o"))]
VIDEO = [*CONTROLS, *SIMPLE[1:], "dual", "no-rotation", "no-finetune", "trf", "vibid", "forward"]
SEEN = ("psnr", "psnr_moving", "ssim", "we", "we_mid", "high_frequency")
WAY = ("psnr", "psnr_moving", "ssim", "direction", "back_and_forth", "spread")
FUSED_AT = {"inversion_steps": 14}  # at the paper's 30 of 50 the embedded model's frames fall apart, see notebook 00
STEPS = {"steps": 6, "recurrence": 1}
# all windows of clip-bench by name, so that the table can be read where the clips are not installed
CLIPS = [f"clip:bunny:{k}" for k in (0, 28, 55, 83)] + [f"clip:carphone:{k}" for k in (0, 36, 71)]
CLIPS += [f"clip:bikes:{k}" for k in (82, 137, 190)]
TABLES = {
    "interpolation": Table("DreamMover, Table 1, on world-bench", IMAGE, "world-bench:50", 3, SEEN, FUSED_AT),
    "ablation": Table("DreamMover, Table 3, on world-bench", PARTS, "world-bench:50", 3, SEEN, FUSED_AT),
    "inbetweening": Table("Generative Inbetweening, Table 1, on calm-bench", VIDEO, "calm-bench:50", 12, WAY, STEPS),
    "clips": Table("DreamMover, Table 1, on clip-bench", IMAGE, CLIPS, 3, SEEN, FUSED_AT, 128),
    "clips-video": Table("Generative Inbetweening, Table 1, on clip-bench", VIDEO, CLIPS, 12, SEEN, STEPS, 64),
}


def load_table(name: str, *, folder: Path = PUBLISHED) -> Results:
    """A table as it lies in the repository, if this version made it with these weights.

    Raises ValueError for an unknown table, and for one of which a row is missing because a method, a measure, a data
    set or the weights have changed since; it names the command that renews it.
    """
    if name not in TABLES:
        raise ValueError(f"there is no table {name!r}: there are {', '.join(TABLES)}.")
    renew, path = f"run `python -m interp_lib.bench.tables {name}` (or `make bench-tables`)", folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"the table {name} has not been computed: {renew}.")
    known = json.loads(path.read_text(encoding="utf-8"))["rows"]
    items, _ = TABLES[name].plan()
    if stale := sorted({item.method for item in items if item.digest not in known}):
        raise ValueError(f"the table {name} was made by another version or weights ({', '.join(stale)}): {renew}.")
    rows = [known[item.digest] for item in items]
    whole_rows = [{name: math.inf if value == "infinite" else value for name, value in row.items()} for row in rows]
    return Results(TABLES[name].about, whole_rows)


def load_distances(name: str, *, folder: Path = PUBLISHED) -> dict[str, dict[str, dict[str, Any]]]:
    """{network: {method: cells}} of a table, as of `set_distances`; raises as `load_table` does."""
    load_table(name, folder=folder)
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["distances"]


def publish(name: str, made: Results, distances: dict[str, Any], *, folder: Path = PUBLISHED) -> Path:
    """Write a table's rows, by their items' digests, to where `load_table` finds them, and the sets' distances."""
    items, how = TABLES[name].plan()
    if failed := made.where(status="failed"):
        raise ValueError(f"{len(failed)} items of {name} failed ({failed[0]['reason']}): the table is not whole.")
    rows = {item.digest: _plain(row) for item, row in zip(items, made.rows, strict=True)}
    about = {"about": made.about, "cases": TABLES[name].cases, "settings": how.about(), "distances": distances}
    _write(folder / f"{name}.json", about, rows)
    return folder / f"{name}.json"


def _write(path: Path, about: dict[str, Any], rows: dict[str, Row]) -> None:
    """A line a row."""
    lines = ",\n".join(f'  "{digest}": {json.dumps(row)}' for digest, row in rows.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(f'{json.dumps(about)[:-1]},\n "rows": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


def _distances(out: Path, made: Results) -> dict[str, Any]:
    """Of every network, six digits each."""
    found = {net: set_distances(out, made.rows, net=net) for net in NETS}
    return json.loads(json.dumps(found), parse_float=lambda x: float(f"{float(x):.6g}"))


def _plain(row: Row) -> Row:
    """Without what no two runs share, and with infinity (the PSNR of equal frames) as a word, which JSON lacks."""
    kept = {name: value for name, value in row.items() if name not in ("seconds", "device")}
    return {name: "infinite" if value == math.inf else value for name, value in kept.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser()
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.tables if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}: there are {', '.join(TABLES)}")
    try:
        for name in asked.tables or TABLES:
            _make(name, asked)
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _make(name: str, asked: argparse.Namespace) -> None:
    """Run a table, or what was asked for in its place, and print it; publish it where it is the repository's own."""
    table, out = TABLES[name], asked.out / name
    methods, cases = asked.methods or table.methods, asked.cases or table.cases
    takes = set().union(*(find_method(method).takes() for method in methods))
    run = {"workers": asked.workers, "ray": asked.ray, "retry": asked.retry, "frames": table.frames}
    run |= {"settings": {option: value for option, value in table.settings.items() if option in takes}}
    run |= {"size": asked.size or (None if asked.cases else table.size), "device": asked.device}
    made = benchmark(methods, cases, out, model=asked.model, video_model=asked.video_model, **run)
    print(f"\n{table.about}\n{as_text(summarise(made.rows, table.columns))}")
    for reason in sorted({f"{row['method']}: {row['reason']}" for row in made.where(status="failed")}):
        print(f"failed: {reason}")
    print(out / "table.csv")
    own = not any((asked.cases, asked.methods, asked.size)) and asked.model == asked.video_model == "embedded"
    if own and not made.where(status="failed"):
        print(publish(name, made, _distances(out, made)))


def make_parser() -> Parser:
    examples = {
        "interpolation --workers 1": "one table, as the repository has it",
        "interpolation --cases pairs:FOLDER --methods DreamMover cross-dissolve": "your own pairs, two methods",
    }
    parser = Parser(prog="python -m interp_lib.bench.tables", description=__doc__, examples=examples)
    parser.add_argument("tables", nargs="*", help=f"which (default: all of {', '.join(TABLES)})")
    parser.add_argument("--out", type=Path, default=Path("build/tables"), help="folder of the results; resumed")
    parser.add_argument("--cases", help='other cases, such as "world-bench:10", "clip-bench" or "pairs:FOLDER"')
    parser.add_argument("--methods", nargs="+", help="other methods, by name")
    parser.add_argument("--model", default="embedded", help="image model: a diffusers folder or name")
    parser.add_argument("--video-model", default="embedded", help="video model: a diffusers folder or name")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps")
    parser.add_argument("--size", type=int, help="pixels a side (default: the data set's own)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--retry", action="store_true", help="try again what failed or lacked weights")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
