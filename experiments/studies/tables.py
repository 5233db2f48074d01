"""The papers' tables on data with ground truth: `python -m experiments.studies.tables` (`make bench-tables`)."""

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from interp_lib.bench.benchmark import VERSION, benchmark
from interp_lib.bench.content_hash import weights_hash
from interp_lib.bench.methods import METHODS, find_method
from interp_lib.bench.set_metrics import NETS, set_distances
from interp_lib.bench.tables import RESULTS, as_text, load_table, round_digits, summarise, write_results


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

    def depends_on(self) -> dict[str, Any]:
        """Return what makes a committed table stale when it changes, as it stands in its file."""
        kinds = sorted({find_method(name).kind for name in self.methods} - {None})
        settings = {"frames": self.frames, "size": self.size, **self.settings}
        sets = {"methods": self.methods, "cases": self.cases, "settings": settings}
        return {"version": VERSION, **sets, "weights": {kind: weights_hash(kind) for kind in kinds}}


CONTROLS = ["truth", "shuffled"]
SIMPLE = ["nearest keyframe", "cross-dissolve", "classical flow", "RIFE"]
DIFFUSION = ["latent lerp", "latent slerp", "direct fusion", "DiffInterp", "DiffMorpher", "DreamMover"]
IMAGE = [*CONTROLS, *SIMPLE, *DIFFUSION]
PARTS = ["truth", "DreamMover", *(name for name in METHODS if name.startswith("DreamMover w/o"))]
VIDEO = [*CONTROLS, *SIMPLE[1:], "dual", "no-rotation", "no-finetune", "trf", "vibid", "forward"]
FRAME_MEASURES = ("psnr", "psnr_moving", "ssim", "we", "we_mid", "high_frequency")
DIRECTION_MEASURES = ("psnr", "psnr_moving", "ssim", "direction", "back_and_forth", "spread")
# At the paper's 30 of 50 the embedded model's frames fall apart, see notebook 00; the LoRA is the paper's
FUSED_AT = {"inversion_steps": 14, "lora": True}
STEPS = {"steps": 6, "recurrence": 1}
# all windows of clip-bench by name: the list does not depend on whether the clips are installed
CLIPS = [f"clip:bunny:{k}" for k in (0, 28, 55, 83)] + [f"clip:carphone:{k}" for k in (0, 36, 71)]
CLIPS += [f"clip:bikes:{k}" for k in (82, 137, 190)]
TABLES = {
    "interpolation": Table("DreamMover, Table 1, on world-bench", IMAGE, "world-bench:50", 3, FRAME_MEASURES, FUSED_AT),
    "ablation": Table("DreamMover, Table 3, on world-bench", PARTS, "world-bench:50", 3, FRAME_MEASURES, FUSED_AT),
    "inbetweening": Table(
        "Generative Inbetweening, Table 1, on calm-bench", VIDEO, "calm-bench:50", 12, DIRECTION_MEASURES, STEPS
    ),
    "clips": Table("DreamMover, Table 1, on clip-bench", IMAGE, CLIPS, 3, FRAME_MEASURES, FUSED_AT, 128),
    "clips-video": Table(
        "Generative Inbetweening, Table 1, on clip-bench", VIDEO, CLIPS, 12, FRAME_MEASURES, STEPS, 64
    ),
}


def stale(name: str) -> str:
    """Return why a committed table has to be computed again, or "" if it is fresh."""
    try:
        table = load_table(name)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    now = TABLES[name].depends_on()
    other = [part for part, value in now.items() if table.attrs[part] != value]
    return f"the table {name} was made with other {' and '.join(other)}" if other else ""


def publish(name: str, table: pd.DataFrame, distances: dict[str, Any], *, folder: Path = RESULTS / "bench") -> Path:
    """Write the table of a benchmark and the distances of its sets to where `load_table` reads them.

    Raises ValueError where an item failed: the table is not complete.
    """
    failed = table[table["status"] == "failed"]
    if len(failed):
        raise ValueError(f"{len(failed)} items of {name} failed ({failed['reason'].iloc[0]}): it is not complete.")
    kept = table.drop(columns=["seconds", "device", "file"], errors="ignore")
    rows = [{k: None if x != x else x for k, x in row.items()} for row in kept.to_dict("records")]
    content = {"about": TABLES[name].about, "model": "embedded", **TABLES[name].depends_on(), "distances": distances}
    return write_results(folder / f"{name}.json", content, rows)


def main(arguments: list[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        for name in options.tables or TABLES:
            _compute(name, options)
    except KeyboardInterrupt:
        print("interrupted; finished items are kept, run it again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _compute(name: str, options: argparse.Namespace) -> None:
    """Run a table, or the methods and cases given in its place, and print it; publish it if it is the committed one."""
    if name not in TABLES:
        raise ValueError(f"there is no table {name!r}: there are {', '.join(TABLES)}")
    table, out = TABLES[name], options.out / name
    methods, cases = options.methods or table.methods, options.cases or table.cases
    takes = set().union(*(find_method(method).takes() for method in methods))
    result = benchmark(
        methods,
        cases,
        out,
        workers=options.workers,
        frames=table.frames,
        size=options.size or (None if options.cases else table.size),
        model=options.model,
        video_model=options.video_model,
        device=options.device,
        settings={option: value for option, value in table.settings.items() if option in takes},
        retry=options.retry,
        ray=options.ray,
    )
    print(f"\n{table.about}\n{as_text(summarise(result, table.columns))}")
    failed = result[result["status"] == "failed"]
    for reason in sorted({f"{row['method']}: {row['reason']}" for row in failed.to_dict("records")}):
        print(f"failed: {reason}")
    print(out / "table.csv")
    committed = not any((options.cases, options.methods, options.size))
    if committed and options.model == options.video_model == "embedded" and not len(failed):
        networks = {net: set_distances(out, result, net=net) for net in NETS}
        print(publish(name, result, {net: {m: round_digits(c) for m, c in d.items()} for net, d in networks.items()}))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m experiments.studies.tables", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"which (default: all of {', '.join(TABLES)})")
    parser.add_argument("--out", type=Path, default=Path("build/tables"), help="folder of the results; resumed")
    parser.add_argument("--cases", help='other cases, such as "world-bench:10", "clip-bench" or "pairs:FOLDER"')
    parser.add_argument("--methods", nargs="+", help="other methods, by name")
    parser.add_argument("--model", default="embedded", help="image model: a diffusers folder or name")
    parser.add_argument("--video-model", default="embedded", help="video model: a diffusers folder or name")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps")
    parser.add_argument("--size", type=int, help="pixels a side (default: the data set's own)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    parser.add_argument("--retry", action="store_true", help="try again what failed or lacked weights")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
