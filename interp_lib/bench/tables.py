"""Tables that are committed under data/results, and their summaries: pandas DataFrames."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from interp_lib.bench.content_hash import ROOT, weights_hash
from interp_lib.files import atomic_write

RESULTS = ROOT / "data" / "results"
LOWER_IS_BETTER = {"lpips", "lpips_ends", "ppl", "pdv", "we", "we_mid", "we_x100", "we_mid_x100", "back_and_forth"}
LOWER_IS_BETTER |= {"perceptual", "perceptual_ends", "perceptual_ppl", "perceptual_pdv", "fid", "kid"}
NEAR_ONE = {"high_frequency", "high_frequency_side", "spread"}  # ratios to the truth or the inputs


def load_results(study: str, *, folder: Path = RESULTS) -> pd.DataFrame:
    """Read the table of a study: one row per measurement, with the item's values and what was measured on it.

    `.attrs` of the table has "about", "version", "weights". A value that does not exist is NaN. Raises
    FileNotFoundError where there is no such table and ValueError for one that was made with other weights; both name
    the command that renews it.
    """
    return _as_frame(_read(study, folder, "python -m experiments.studies", "make results"))


def load_table(name: str, *, folder: Path = RESULTS / "bench") -> pd.DataFrame:
    """Read a table of the papers as `benchmark` made it, one row per method and case; as `load_results` otherwise."""
    return _as_frame(_read(name, folder, "python -m experiments.studies.tables", "make bench-tables"))


def load_distances(name: str, *, folder: Path = RESULTS / "bench") -> dict[str, dict[str, dict[str, Any]]]:
    """Read {network: {method: cells}}, the distances of a table's sets of frames to the true ones: `set_distances`."""
    return _read(name, folder, "python -m experiments.studies.tables", "make bench-tables")["distances"]


def write_results(path: Path, content: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Path:
    """Write a table as JSON, `content` first and then one row per line; what a row lacks is null."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ",\n".join("  " + json.dumps([row.get(name) for name in columns]) for row in rows)
    head = json.dumps(content | {"columns": columns}, indent=1)[:-2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    return path


def round_digits(row: dict[str, Any]) -> dict[str, Any]:
    """Round the floats of a row to six significant digits: what two machines agree on, and files stay small."""
    return {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in row.items()}


def _read(name: str, folder: Path, command: str, target: str) -> dict[str, Any]:
    path, command = folder / f"{name}.json", f"{command} {name}"
    known = sorted(path.stem for path in folder.glob("*.json"))
    if name not in known:
        raise FileNotFoundError(f"there is no table {name!r}: there are {', '.join(known)}; to make one: {command}")
    content = json.loads(path.read_text(encoding="utf-8"))
    stale = [kind for kind, known in content["weights"].items() if known != weights_hash(kind)]
    if stale and content["model"] == "embedded":
        other = f"other weights of the {' and '.join(stale)} model"
        raise ValueError(f"the table {name} was made with {other}: run `{command}` (or `{target}`).")
    return content


def _as_frame(content: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(content["rows"], columns=content["columns"])
    for name, *values in zip(content["columns"], *content["rows"], strict=True):
        if {type(value) for value in values} == {int, type(None)}:
            table[name] = pd.array(values, dtype="Int64")  # whole numbers stay whole where some rows have none
    table.attrs = {name: value for name, value in content.items() if name not in ("rows", "columns", "distances")}
    return table


def select(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return the rows that have all these values, such as select(table, method="DreamMover", case="world:0")."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def summarise(table: pd.DataFrame, columns: Sequence[str], *, by: str = "method") -> pd.DataFrame:
    """Return mean, standard deviation and count of columns: one row per group, columns (measure, "mean"/"std"/"n").

    by: the column that names the group; groups stand in the order in which they first appear. Failed items, texts such
    as "n/a: weights" and values that do not exist are left out: n says over how many items a mean is taken. The mean of
    none is NaN, as is the deviation of one; an infinite PSNR (equal images) makes the mean infinite.
    """
    if by not in table:
        raise ValueError(f"by={by!r} is no column of this table: it has {', '.join(map(str, table))}.")
    numbers = table.reindex(columns=list(columns)).apply(pd.to_numeric, errors="coerce").astype(float)
    if "status" in table:
        numbers[table["status"] != "ok"] = math.nan
    groups = numbers.groupby(table[by], sort=False)
    parts = {"mean": groups.mean(), "std": groups.std(), "n": groups.count()}
    summary = pd.concat(parts, axis=1).swaplevel(axis=1)
    return summary[[(column, part) for column in columns for part in parts]]


def ranking(summary: pd.DataFrame, column: str) -> list[Any]:
    """Return the groups from best to worst in one column; groups without a number are left out."""
    if column not in (known := summary.columns.unique(0)):
        raise ValueError(f"column={column!r} is not in the summary: it has {', '.join(known)}.")
    means = summary[column, "mean"][summary[column, "n"] > 0]
    if column in NEAR_ONE:
        means = (means - 1).abs()
    return list(means.sort_values(ascending=column in LOWER_IS_BETTER | NEAR_ONE, kind="stable").index)


def as_text(summary: pd.DataFrame, *, digits: int = 3) -> str:
    """Return a table of "mean +- deviation" and the number of items; a cell over fewer items says over how many."""
    columns, counts = summary.columns.unique(0), summary.xs("n", axis=1, level=1).max(axis=1).astype(int)

    def cell(mean: float, std: float, n: float, most: int) -> str:
        spread = "" if math.isnan(std) else f" +- {std:.{digits}f}"
        return f"{mean:.{digits}f}{spread}" + ("" if n == most else f" ({n:.0f})") if n else "n/a"

    lines = [["", *columns, "n"]]
    for group, most in counts.items():
        lines.append([str(group), *(cell(*summary.loc[group, column], most) for column in columns), str(most)])
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines)
