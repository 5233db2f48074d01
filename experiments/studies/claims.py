"""The claims of both papers, one row each, with what the committed tables say of them: `claims_table`.

Every claim is that one thing is better than another, so each row is a comparison on the same items (pairs, clips):
here is the mean of the thing claimed, control that of what it is compared with. `shows` is "yes" where the mean
difference is in the claim's favour by more than two of its standard errors, "no" where it is not in its favour at all,
"partly" between the two. `python -m experiments.studies.claims` renews the short table of the README.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from interp_lib.bench.content_hash import ROOT
from interp_lib.bench.tables import load_results, load_table, select
from interp_lib.files import atomic_write

ITEMS = (("case",), ("pair",), ("seed", "amount"))  # the columns that name an item: the first that a table has
NOTEBOOKS = {path.name[:2]: path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}


class Measure(NamedTuple):
    """A column of a table, which is a study or, as "bench/NAME", one of the papers' tables."""

    table: str
    name: str
    column: str
    lower: bool = False  # lower values are better


@dataclass(frozen=True)
class Claim:
    """claim: one sentence. notebook: its number. here, control: the rows compared, by column and value; a number stands
    for itself. paper: the paper's own figures, "" where it shows pictures."""

    claim: str
    notebook: str
    measure: Measure
    here: dict[str, Any]
    control: dict[str, Any] | float
    paper: str = ""

    def row(self) -> dict[str, Any]:
        """Compare the items that both have."""
        here = self._values(self.here)
        control = self._values(self.control) if isinstance(self.control, dict) else here * 0 + self.control
        both = pd.concat([here, control], axis=1, join="inner").dropna()
        if both.empty:
            raise ValueError(f"the table {self.measure.table} has no rows to compare for the claim {self.claim!r}.")
        difference = (both.iloc[:, 0] - both.iloc[:, 1]) * (-1 if self.measure.lower else 1)
        mean, error = difference.mean(), difference.sem() if len(difference) > 1 else float("inf")
        return {
            "claim": self.claim,
            "notebook": self.notebook,
            "measure": self.measure.name + (" (lower is better)" if self.measure.lower else ""),
            "here": both.iloc[:, 0].mean(),
            "control": both.iloc[:, 1].mean(),
            "better on": f"{(difference > 0).sum()} of {len(difference)}",
            "paper": self.paper,
            "shows": "yes" if mean > 2 * error else "partly" if mean > 0 else "no",
        }

    def _values(self, where: dict[str, Any]) -> pd.Series:
        table = _table(self.measure.table)
        rows = select(table, **where)
        items = next([name for name in group if name in table] for group in ITEMS if group[0] in table)
        return pd.to_numeric(rows[self.measure.column], errors="coerce").groupby([rows[name] for name in items]).mean()


@cache
def _table(name: str) -> pd.DataFrame:
    return load_table(name.removeprefix("bench/")) if name.startswith("bench/") else load_results(name)


MOVING = "PSNR of moving pixels, dB"
PLACES = Measure("features", "places found, %", "place")
PCK = Measure("flow", "PCK@0.1, %", "pck")
LATENTS = Measure("frequency", "high frequencies of latents", "area")
LATENTS_LOST = LATENTS._replace(lower=True)
DETAIL = Measure("fusion", "high frequencies of the frame", "energy")
LOST = Measure("ablations", "patches lost", "lost", lower=True)
TABLE_1 = Measure("bench/interpolation", MOVING, "psnr_moving")
TABLE_3 = Measure("bench/ablation", MOVING, "psnr_moving")
FORWARD = Measure("animation", "share of steps along the facing", "accuracy")
ARRIVED = Measure("backward", "PSNR of the first frame, dB", "first")
TO_AND_FRO = Measure("bench/inbetweening", "back and forth", "back_and_forth", lower=True)
VIDEO = Measure("bench/inbetweening", MOVING, "psnr_moving")

FEATURES = {"network": "trained", "block": 2, "step": 14}
OURS, TURNED = {"kind": "hard", "estimator": "features"}, {"kind": "turn", "estimator": "features"}
NOISE, CLEAN = ({"step": 14, "inversion_steps": 14, "way": "inputs", "what": part} for part in ("noise", "clean"))
INPUTS = NOISE | {"what": "latent"}
FUSED = {"flow": "features", "inversion_steps": 14, "strategy": "average/wta"}
BARE = {"variant": "full", "inversion_steps": 14, "steps": 0}
DREAMMOVER, DUAL, TUNED = {"method": "DreamMover"}, {"method": "dual"}, {"way": "tuned"}

CLAIMS = [
    Claim(
        "two images' features share a layout, a random network's do not",
        "01",
        PLACES,
        FEATURES,
        FEATURES | {"network": "untrained"},
    ),
    Claim(
        "features find more of a large motion than raw patches", "02", PCK, OURS, OURS | {"estimator": "raw patches"}
    ),
    Claim("... than block matching", "02", PCK, OURS, OURS | {"estimator": "block matching"}),
    Claim("... than variational flow, TV-L1", "02", PCK, OURS, OURS | {"estimator": "TV-L1"}),
    Claim("... than raw patches where the object turns", "02", PCK, TURNED, TURNED | {"estimator": "raw patches"}),
    Claim("the noise part carries the high frequencies", "03", LATENTS, NOISE, CLEAN),
    Claim("direct fusion loses high frequencies", "03", LATENTS_LOST, INPUTS | {"way": "direct"}, INPUTS),
    Claim("two-level fusion keeps more of them", "04", DETAIL, FUSED, FUSED | {"strategy": "direct"}),
    Claim(
        "the winner keeps more of them than the average noise",
        "04",
        DETAIL,
        FUSED,
        FUSED | {"strategy": "average/average"},
    ),
    Claim(
        "two-level fusion makes better frames",
        "08",
        TABLE_3,
        DREAMMOVER,
        {"method": "DreamMover w/o two-level fusion"},
        "FID 43.2, without 138.9",
    ),
    Claim(
        "the features' flow makes better frames than another",
        "08",
        TABLE_3,
        DREAMMOVER,
        {"method": "DreamMover w/o our estimator"},
        "FID 43.2, RAFT's 53.9",
    ),
    Claim(
        "attention replacement keeps the identity",
        "05",
        LOST,
        BARE,
        BARE | {"variant": "attention=False"},
        "FID 43.2, without 69.4",
    ),
    Claim(
        "a LoRA on the pair keeps the identity",
        "05",
        LOST,
        BARE | {"steps": 80, "rank": 16},
        BARE,
        "FID 43.2, without 76.7",
    ),
    Claim(
        "DreamMover is nearer to the truth than a cross-dissolve",
        "08",
        TABLE_1,
        DREAMMOVER,
        {"method": "cross-dissolve"},
    ),
    Claim("... than DiffMorpher", "08", TABLE_1, DREAMMOVER, {"method": "DiffMorpher"}, "FID 43.2, 68.2"),
    Claim("... than DiffInterp", "08", TABLE_1, DREAMMOVER, {"method": "DiffInterp"}, "FID 43.2, 185.8"),
    Claim(
        "... than RIFE where the motion is large",
        "08",
        TABLE_1,
        DREAMMOVER | {"grade": "large"},
        {"method": "RIFE", "grade": "large"},
        "FID 43.2, FILM's 54.3",
    ),
    Claim("rotated maps and the fine-tune turn time round", "06", FORWARD, TUNED, 0.5),
    Claim("... rotated maps alone do", "06", FORWARD, {"way": "rotated everywhere"}, 0.5),
    Claim("... better than a fine-tune without them", "06", ARRIVED, TUNED, {"way": "unrotated"}),
    Claim("dual sampling goes to and fro less than TRF", "07", TO_AND_FRO, DUAL, {"method": "trf"}, "FID 34.6, 41.9"),
    Claim("... than without rotation", "07", TO_AND_FRO, DUAL, {"method": "no-rotation"}, "FID 34.6, 39.1"),
    Claim("... than without the fine-tune", "07", TO_AND_FRO, DUAL, {"method": "no-finetune"}, "FID 34.6, 53.4"),
    Claim("dual sampling is nearer to the truth than TRF", "07", VIDEO, DUAL, {"method": "trf"}, "FID 34.6, 41.9"),
    Claim("... than RIFE", "08", VIDEO, DUAL, {"method": "RIFE"}, "FID 34.6, FILM's 36.0"),
]


def claims_table() -> pd.DataFrame:
    """Return one row a claim: claim, notebook, measure, here, control, better on, paper, shows.

    Raises ValueError for a table that was made with other weights, as `load_results` does.
    """
    return pd.DataFrame([claim.row() for claim in CLAIMS])


def as_markdown(table: pd.DataFrame) -> str:
    """Return the short table of the README."""
    lines = ["| claim | notebook | better on | shows here |", "|---|---|---|---|"]
    for row in table.to_dict("records"):
        link = f"[{row['notebook']}](notebooks/{NOTEBOOKS[row['notebook']]}.ipynb)"
        lines.append(f"| {row['claim']} | {link} | {row['better on']} | {row['shows']} |")
    return "\n".join(lines)


def renew(readme: Path = ROOT / "README.md") -> None:
    """Put the short table between the README's two markers."""
    table = as_markdown(claims_table())
    text = readme.read_text(encoding="utf-8")
    start, end = "<!-- claims -->\n", "\n<!-- /claims -->"
    with atomic_write(readme) as partial:
        fresh = re.sub(f"(?s){start}.*?{end}", lambda match: start + table + end, text)
        partial.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    renew()
