"""The suitability of held-out pairs, and whether it predicts the measured quality: `python -m
experiments.studies.suitability` prints the tables of docs/failures.md in Markdown."""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, pearsonr, rankdata

from experiments.studies import exit_code, study
from interp_lib.bench.datasets import load_case
from interp_lib.bench.tables import load_results, load_table, select
from interp_lib.dreammover import suitability as score
from interp_lib.models.image_model import ImageModel

WINDOWS = {"bunny": (0, 28, 55, 83), "carphone": (0, 36, 71), "bikes": (82, 137, 190)}
CLIPS = [f"clip:{clip}:{first}" for clip, starts in WINDOWS.items() for first in starts]  # all of clip-bench
GROUPS = {
    "judged": [f"world:{seed}" for seed in range(50)],
    "limits": [f"world:{seed}" for seed in range(100, 140)],
    "clips": CLIPS,
}
QUANTITIES = ("score", "change", "residue", "consistent", "smooth", "covered", "displacement")
METHOD, BASELINE = "DreamMover", "cross-dissolve"
QUALITIES = {
    "psnr_moving": "PSNR on moving pixels, dB",
    "ssim": "SSIM",
    "plain": f"PSNR on moving pixels of a {BASELINE}, dB",
    "gain": "gained over it, dB",
}
TABLES = {"judged": "interpolation", "clips": "clips"}  # group of the study -> table with the measured quality
WORST = 8  # pairs that are listed


@study("image", [{"group": name, "case": case} for name, cases in GROUPS.items() for case in cases])
def suitability(model: ImageModel, *, group: str, case: str) -> list[dict]:
    """What `suitability` says of a pair before it is interpolated: its score and the quantities behind it.

    group: "judged", the pairs of world-bench on which the benchmark interpolates, and "clips", the windows of
    clip-bench, likewise: on them the score is held against the quality that was measured, see `report`; "limits", other
    held-out world pairs, on which the parts of the score were chosen. Features of 50 steps, at 128 px, without a LoRA
    or a prompt.
    """
    pair = load_case(case, frames=3, size=128).pair  # those of the benchmark's tables
    found = score.suitability(model, pair.image0, pair.image1, progress=False)
    return [{name: getattr(found, name) for name in QUANTITIES}]


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Return Spearman's rank correlation of paired numbers and its 95 % interval: (rho, low, high), each in [-1,1].

    Source: Spearman 1904; the interval is the percentile bootstrap's over pairs (Efron 1979), from 2,000 resamples.
    """

    def spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:  # scipy's own takes no axis of resamples
        return pearsonr(rankdata(x, axis=axis), rankdata(y, axis=axis), axis=axis).statistic

    how = {"paired": True, "n_resamples": 2000, "method": "percentile", "rng": np.random.default_rng(0)}
    interval = bootstrap((x, y), spearman, **how).confidence_interval
    return float(spearman(x, y)), float(interval.low), float(interval.high)


def load_judged(group: str) -> pd.DataFrame:
    """Read the pairs of a group, each with its suitability and the quality that was measured afterwards."""
    measured = load_table(TABLES[group])
    quality = select(measured, method=METHOD).set_index("case")
    plain = select(measured, method=BASELINE).set_index("case")["psnr_moving"]
    quality = quality.assign(plain=plain, gain=quality["psnr_moving"] - plain)[list(QUALITIES)]
    return select(load_results("suitability"), group=group).join(quality, on="case")


def report(judged: pd.DataFrame, clips: pd.DataFrame) -> str:
    """Return the tables of docs/failures.md, from `load_judged` tables."""
    rows = [(f"{name}, world-bench ({len(judged)} pairs)", name, judged) for name in QUANTITIES]
    rows.insert(1, (f"score, clip-bench ({len(clips)} windows)", "score", clips))
    cell = "{:+.2f} [{:+.2f}, {:+.2f}]".format
    body = [[label, *(cell(*rank_correlation(x[name], x[q])) for q in QUALITIES)] for label, name, x in rows]
    lines = [f"Rank correlation with {METHOD}'s quality on the same pairs, afterwards (95 % interval).", ""]
    lines += _markdown(["", *QUALITIES.values()], body)
    lines += ["", f"The {WORST} pairs on which it did worst, of {len(judged)}.", ""]
    shown = ["score", "change", "residue", "consistent", "covered"]
    worst = judged.sort_values("psnr_moving", kind="stable").head(WORST).to_dict("records")
    body = [[row["case"], f"{row['psnr_moving']:.1f}", *(f"{row[name]:.2f}" for name in shown)] for row in worst]
    return "\n".join([*lines, *_markdown(["pair", QUALITIES["psnr_moving"], *shown], body)]) + "\n"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    sys.exit(exit_code(lambda: print(report(load_judged("judged"), load_judged("clips")))))
