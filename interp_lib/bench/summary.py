"""A benchmark's rows in few lines: mean, spread and number for every method and measure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from interp_lib.bench.results import Row

LOWER_IS_BETTER = {"lpips", "lpips_ends", "ppl", "pdv", "we", "we_mid", "we_x100", "we_mid_x100", "back_and_forth"}
LOWER_IS_BETTER |= {"perceptual", "perceptual_ends", "perceptual_ppl", "perceptual_pdv", "fid", "kid"}
NEAR_ONE = {"high_frequency", "high_frequency_side", "spread"}  # ratios to the truth or the inputs


def summarise(
    rows: Iterable[Row], columns: Sequence[str], *, by: str = "method"
) -> dict[Any, dict[str, tuple[float, float, int]]]:
    """{group: {column: (mean, standard deviation, n)}} in the order in which the groups first appear.

    by: the column that names the group. Failed rows, cells that are no number and cells that are not there are
    left out, so that n says how many items a mean is over; a mean of none is NaN, a deviation of one too. One infinite
    PSNR (equal images) makes the mean infinite.
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        if by not in row:
            raise ValueError(f"by={by!r} is no column of these rows: they have {', '.join(map(str, row))}.")
        groups.setdefault(row[by], []).append(row)
    return {name: {column: _moments(members, column) for column in columns} for name, members in groups.items()}


def _moments(rows: list[Row], column: str) -> tuple[float, float, int]:
    cells = [row.get(column) for row in rows if row.get("status", "ok") == "ok"]
    known = [float(x) for x in cells if isinstance(x, (int, float)) and not math.isnan(x)]
    mean = fmean(known) if known else math.nan
    return mean, stdev(known) if len(known) > 1 and math.isfinite(mean) else math.nan, len(known)


def ranking(summary: dict[Any, dict[str, tuple[float, float, int]]], column: str) -> list[Any]:
    """The groups from best to worst in one column; groups without a number are left out."""
    if summary and column not in (columns := next(iter(summary.values()))):
        raise ValueError(f"column={column!r} is not in the summary: it has {', '.join(columns)}.")
    known = [name for name, cells in summary.items() if cells[column][2]]
    if column in NEAR_ONE:
        return sorted(known, key=lambda name: abs(summary[name][column][0] - 1))
    return sorted(known, key=lambda name: summary[name][column][0], reverse=column not in LOWER_IS_BETTER)


def as_text(summary: dict[Any, dict[str, tuple[float, float, int]]], *, digits: int = 3) -> str:
    """A table of "mean +- deviation" and the number of items; a cell of fewer says how many, one of none "n/a"."""
    columns = list(next(iter(summary.values()), {}))
    lines = [["", *columns, "n"]]
    for name, cells in summary.items():
        most = max((n for *_, n in cells.values()), default=0)
        shown = [_cell(*cell, digits) + (f" ({cell[2]})" if 0 < cell[2] < most else "") for cell in cells.values()]
        lines.append([str(name), *shown, str(most)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    justified = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in justified)


def _cell(mean: float, std: float, n: int, digits: int) -> str:
    if not n:
        return "n/a"
    return f"{mean:.{digits}f}" if math.isnan(std) else f"{mean:.{digits}f} +- {std:.{digits}f}"
