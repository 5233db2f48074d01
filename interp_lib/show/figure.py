"""Figures: one style, saved with provenance, shown with alt text; contact sheets and flow in colour."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp_lib.checks import check_int, check_number, check_tensors
from interp_lib.files import atomic_write
from interp_lib.show.media import Media
from interp_lib.show.provenance import figure_path, library_hash

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("interp.mplstyle")
# Segments of the Middlebury wheel: red-yellow, yellow-green, green-cyan, cyan-blue, blue-magenta, magenta-red.
WHEEL = (15, 6, 4, 11, 13, 6)


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """The repository's matplotlib style, restored afterwards: `with figure_style(): ...` around a figure's drawing."""
    import matplotlib.style

    with matplotlib.style.context(STYLE):
        yield


def save_figure(fig: Figure, name: str, *, alt: str, title: str = "", **provenance: Any) -> Media:
    """Write figures/`name`.png with its provenance and return it: the last line of a cell shows it.

    fig: a matplotlib figure; it is closed, so that the inline backend does not show it a second time.
    name: lower-case letters, digits and underscores, beginning with the notebook's number: "02_flow".
    alt: what a reader who cannot see it needs to know, in a sentence.
    provenance: whatever made it (seed=0, pair="motorcycle"), JSON values. The metadata hold title, alt text, notebook,
    parameters, a hash of the picture and one of the library; no time, so the same inputs give the same bytes, and of
    an absolute path only its last name, since a figure travels.
    Raises ValueError for another kind of name or an empty alt text.
    """
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"figure name {name!r}: use lower-case letters, digits and underscores only, without .png")
    if not alt.strip():
        raise ValueError(f"figure {name}: the alt text is empty; say in a sentence what the figure shows")
    import matplotlib.pyplot as plt

    pixels = io.BytesIO()
    with figure_style():
        fig.savefig(pixels, format="png", metadata={"Software": None})
    plt.close(fig)
    path = figure_path(f"{name}.png")
    _write_png(
        path,
        pixels,
        {
            "Title": title or name,
            "Description": alt,
            "Notebook": os.environ.get("INTERP_NOTEBOOK", ""),
            "Parameters": _parameters(provenance),
            "Library": library_hash(),
        },
    )
    return Media(path, alt)


def _parameters(provenance: dict[str, Any]) -> str:
    given = json.loads(os.environ.get("INTERP_PARAMETERS") or "{}") | provenance
    names = {key: Path(x).name for key, x in given.items() if isinstance(x, str | os.PathLike) and os.path.isabs(x)}
    return json.dumps(given | names, sort_keys=True, default=str)


def _write_png(path: Path, pixels: io.BytesIO, texts: dict[str, str]) -> None:
    from PIL import Image, PngImagePlugin

    image = Image.open(pixels).convert("RGB")
    info = PngImagePlugin.PngInfo()
    for key, text in {**texts, "Content": hashlib.sha256(image.tobytes()).hexdigest()}.items():
        info.add_itxt(key, text)
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG", pnginfo=info)


def contact_sheet(
    rows: dict[str, Tensor], *, columns: int = 9, titles: list[str] | None = None, side: float = 1.15
) -> Figure:
    """Frames side by side, one labelled row per method.

    rows: label -> frames [T,3,H,W] in [0,1], every row with the same T; columns: at most so many frames, evenly spaced
    with both ends; titles: one per frame shown, default the position in time from 0 to 1; side: inches per frame.
    Raises ValueError when there is no row, rows differ in T, or titles do not match.
    """
    if not isinstance(rows, dict):
        raise ValueError(f"contact_sheet needs rows as a dictionary {{label: frames}}, got {type(rows).__name__}")
    check_tensors(**{f"rows[{label!r}]": frames for label, frames in rows.items()})
    columns = check_int("columns", columns, 1)
    lengths = {label: len(frames) for label, frames in rows.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"contact_sheet needs rows with one number of frames, got {lengths}")
    from matplotlib.figure import Figure

    total = next(iter(lengths.values()))
    shown = torch.linspace(0, total - 1, min(columns, total)).round().int().tolist()
    titles = [f"{i / max(total - 1, 1):.2f}" for i in shown] if titles is None else titles
    if len(titles) != len(shown):
        raise ValueError(f"contact_sheet shows {len(shown)} frames and has {len(titles)} titles")
    with figure_style():
        aspect = max(frames.shape[-2] / frames.shape[-1] for frames in rows.values())
        fig = Figure(figsize=(side * len(shown) + 1.0, (side * aspect + 0.05) * len(rows) + 0.35))
        grid = fig.subplots(len(rows), len(shown), squeeze=False)
        for line, (label, frames) in zip(grid, rows.items(), strict=True):
            for axes, index in zip(line, shown, strict=True):
                axes.imshow(frames[index].detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy())
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axes, text in zip(grid[0], titles, strict=True):
            axes.set_title(text)
    return fig


def flow_to_colour(flow: Tensor, *, largest: float | None = None) -> Tensor:
    """Flow [N,2,H,W] or [2,H,W] as colours [N,3,H,W] or [3,H,W] in [0,1]: hue is direction, saturation is length.

    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, 2011, the Middlebury wheel.
    largest: length that is fully saturated, default the longest in `flow`; longer vectors are darkened.
    Zero is white; unknown (NaN or infinite) is black. Raises ValueError for another shape.
    """
    check_tensors(flow=flow)
    if largest is not None:
        largest = check_number("largest", largest, 0)
    if flow.ndim not in (3, 4) or flow.shape[-3] != 2:
        raise ValueError(f"flow must be [N,2,H,W] or [2,H,W], got {list(flow.shape)}")
    known = flow.isfinite().all(-3, keepdim=True)
    flow = torch.where(known, flow, 0).float()
    length = flow.norm(dim=-3, keepdim=True)
    length = length / max(float(length.max()) if largest is None else largest, 1e-8)
    dx, dy = flow.unbind(-3)
    wheel = _wheel().to(flow.device)
    turn = (torch.atan2(-dy, -dx) / math.pi + 1) / 2 * (len(wheel) - 1)
    low, part = turn.floor().long(), (turn % 1).unsqueeze(-1)
    hue = ((1 - part) * wheel[low % len(wheel)] + part * wheel[(low + 1) % len(wheel)]).movedim(-1, -3)
    return torch.where(length <= 1, 1 - length * (1 - hue), hue * 0.75) * known


def _wheel() -> Tensor:
    """The 55 colours of the wheel [55,3] in [0,1]."""
    rising = (1, 0, 2, 1, 0, 2)  # channel that changes in each segment; it rises in even ones and falls in odd ones
    steady = (0, 1, 1, 2, 2, 0)
    pieces = []
    for segment, count in enumerate(WHEEL):
        ramp, colours = torch.arange(count) / count, torch.zeros(count, 3)
        colours[:, steady[segment]] = 1
        colours[:, rising[segment]] = ramp if segment % 2 == 0 else 1 - ramp
        pieces.append(colours)
    return torch.cat(pieces)


def flow_legend(axes: Axes, *, largest: float, unit: str = "px") -> None:
    """Draw the colour wheel into `axes`: the colour at a point is that of the vector from the centre to it."""
    largest = check_number("largest", largest, 0)
    line = torch.linspace(-1, 1, 101)
    flow = torch.stack(torch.meshgrid(line, line, indexing="xy"))
    colours = flow_to_colour(flow, largest=1.0)
    colours = torch.where(flow.norm(dim=0) <= 1, colours, 1.0)
    axes.imshow(colours.permute(1, 2, 0).numpy(), extent=(-1, 1, 1, -1), interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"rim = {largest:.3g} {unit}")
