"""`python -m interp_lib.bench.forecast`: does the suitability score foretell the quality that was measured?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import bootstrap, rankdata

from interp_lib.bench import page
from interp_lib.bench.results import Row, load_results
from interp_lib.bench.studies.suitability import QUANTITIES
from interp_lib.bench.tables import load_table
from interp_lib.cli_help import Parser
from interp_lib.dreammover.suitability import LIMITS

METHOD, BASELINE = "DreamMover", "cross-dissolve"
QUALITIES = {
    "psnr_moving": "PSNR on moving pixels, dB",
    "ssim": "SSIM",
    "plain": f"PSNR on moving pixels of a {BASELINE}, dB",
    "gain": "gained over it, dB",
}
TABLES = {"judged": ("interpolation", "world-bench"), "clips": ("clips", "clip-bench")}
WORST = 8  # pairs that are listed
COMMAND = "interp_lib.bench.forecast"


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's rank correlation of paired numbers and its 95 % interval: (rho, low, high), each in [-1,1].

    Source: Spearman 1904; the interval is the percentile bootstrap's over pairs (Efron 1979), from `draws` resamples.
    Raises ValueError for fewer than three pairs and for numbers that do not vary.
    """
    if len(x) != len(y) or len(x) < 3 or min(np.ptp(x), np.ptp(y)) == 0:
        raise ValueError(f"x and y hold {len(x)} and {len(y)} numbers: give three pairs or more, of numbers that vary.")
    draw = {"paired": True, "n_resamples": draws, "method": "percentile", "rng": np.random.default_rng(seed)}
    with np.errstate(invalid="ignore"):  # a resample of one pair alone
        interval = bootstrap((x, y), _spearman, **draw).confidence_interval
    return float(_spearman(np.asarray(x), np.asarray(y))), float(interval.low), float(interval.high)


def _spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    a, b = (rankdata(values, axis=axis) for values in (x, y))
    a, b = (ranks - ranks.mean(axis, keepdims=True) for ranks in (a, b))
    rho = (a * b).sum(axis) / np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    return np.nan_to_num(rho)  # a resample that does not vary has no order: it counts as 0


def joined(group: str) -> list[Row]:
    """The pairs of a group of the study, each with what was said of it before and what was measured afterwards.

    Raises ValueError and FileNotFoundError where one of the two tables is stale or not there.
    """
    measured = load_table(TABLES[group][0])
    made = {row["case"]: row for row in measured.where(method=METHOD)}
    plain = {row["case"]: row["psnr_moving"] for row in measured.where(method=BASELINE)}
    rows = [made[row["case"]] | row for row in load_results("suitability").where(group=group)]
    return [row | {"plain": (x := plain[row["case"]]), "gain": row["psnr_moving"] - x} for row in rows]


def report(judged: list[Row], clips: list[Row]) -> str:
    """The tables of docs/failures.md, from `joined` rows."""
    lines = [f"Rank correlation with {METHOD}'s quality on the same pairs, afterwards (95 % interval).", ""]
    lines += page.table(["", *QUALITIES.values()], _correlations(judged, clips))
    lines += ["", f"{METHOD} on {TABLES['judged'][1]}, means.", ""]
    lines += page.table(["", "pairs", *QUALITIES.values()], _warned(judged))
    worst = sorted(judged, key=lambda row: row["psnr_moving"])[:WORST]
    lines += ["", f"The {WORST} pairs on which it did worst, of {len(judged)}.", ""]
    shown = ("score", "change", "residue", "consistent", "covered")
    body = [[row["case"], f"{row['psnr_moving']:.1f}", *(f"{row[name]:.2f}" for name in shown)] for row in worst]
    return "\n".join(lines + page.table(["pair", QUALITIES["psnr_moving"], *shown], body)) + "\n"


def _correlations(judged: list[Row], clips: list[Row]) -> list[list[str]]:
    named = [(f"{name}, {TABLES['judged'][1]} ({len(judged)} pairs)", name, judged) for name in QUANTITIES]
    named.insert(1, (f"score, {TABLES['clips'][1]} ({len(clips)} windows)", "score", clips))
    cell = "{:+.2f} [{:+.2f}, {:+.2f}]".format
    return [
        [label, *(cell(*rank_correlation([r[name] for r in rows], [r[q] for r in rows])) for q in QUALITIES)]
        for label, name, rows in named
    ]


def _warned(rows: list[Row]) -> list[list[str]]:
    low = [row for row in rows if row["score"] < LIMITS["score"]]
    high = [row for row in rows if row["score"] >= LIMITS["score"]]
    return [
        [label, str(len(some)), *(f"{fmean(row[q] for row in some):.3g}" if some else "none" for q in QUALITIES)]
        for label, some in (("with a warning", low), ("without", high))
    ]


def main(arguments: list[str] | None = None) -> int:
    asked = make_parser().parse_args(arguments)
    return page.run(lambda: report(joined("judged"), joined("clips")), asked.write, COMMAND)


def make_parser() -> Parser:
    examples = {"": "print the tables", "--write docs/failures.md": "and put them there"}
    parser = Parser(prog=f"python -m {COMMAND}", description=__doc__, examples=examples)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose marked part is replaced")
    return parser


if __name__ == "__main__":
    sys.exit(main())
