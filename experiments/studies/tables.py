"""The papers' tables on data with ground truth: `python -m experiments.studies.tables` (`make bench-tables`)."""

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.studies import exit_code
from experiments.studies.suitability import CLIPS
from interp_lib.bench.benchmark import VERSION, benchmark
from interp_lib.bench.content_hash import weights_hash
from interp_lib.bench.methods import METHODS, find_method
from interp_lib.bench.set_metrics import NETS, set_distances
from interp_lib.bench.tables import RESULTS, as_text, round_digits, summarise, write_results


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


def publish(name: str, table: pd.DataFrame, distances: dict[str, Any], *, folder: Path = RESULTS / "bench") -> Path:
    """Write the table of a benchmark and the distances of its sets to where `load_table` reads them."""
    kept = table.drop(columns=["seconds", "device", "file"], errors="ignore")
    rows = [{k: None if x != x else x for k, x in row.items()} for row in kept.to_dict("records")]
    content = {"about": TABLES[name].about, "model": "embedded", **TABLES[name].depends_on(), "distances": distances}
    return write_results(folder / f"{name}.json", content, rows)


def run(name: str, options: argparse.Namespace) -> None:
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
        frames=table.frames,
        size=options.size or (None if options.cases else table.size),
        settings={option: value for option, value in table.settings.items() if option in takes},
        **{name: getattr(options, name) for name in ("workers", "model", "video_model", "device", "retry")},
    )
    print(f"\n{table.about}\n{as_text(summarise(result, table.columns))}")
    failed = result[result["status"] == "failed"]
    for reason in sorted(set(failed["method"] + ": " + failed["reason"])) if len(failed) else ():
        print(f"failed: {reason}")
    print(out / "table.csv")
    other = options.cases or options.methods or options.size
    if not (other or len(failed)) and options.model == options.video_model == "embedded":
        networks = {net: set_distances(out, result, net=net) for net in NETS}
        print(publish(name, result, {net: {m: round_digits(c) for m, c in d.items()} for net, d in networks.items()}))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m experiments.studies.tables", description=__doc__)
    add = parser.add_argument
    add("tables", nargs="*", metavar="TABLE", help=f"which (default: all of {', '.join(TABLES)})")
    add("--out", type=Path, default=Path("build/tables"), help="folder of the results; resumed")
    add("--cases", help='other cases, such as "world-bench:10", "clip-bench" or "pairs:FOLDER"')
    add("--methods", nargs="+", help="other methods, by name")
    add("--model", default="embedded", help="image model: a diffusers folder or name")
    add("--video-model", default="embedded", help="video model: a diffusers folder or name")
    add("--device", default="auto", help="cpu, cuda, mps")
    add("--size", type=int, help="pixels a side (default: the data set's own)")
    add("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    add("--retry", action="store_true", help="try again what failed or lacked weights")
    options = parser.parse_args(arguments)
    return exit_code(lambda: [run(name, options) for name in options.tables or TABLES])


if __name__ == "__main__":
    sys.exit(main())
