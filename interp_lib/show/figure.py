"""Figures: one style, saved with provenance and alt text; contact sheets; flow in colour."""

import hashlib
import io
import json
import math
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin
from torch import Tensor

from interp_lib.checks import check_int, check_number, check_tensors
from interp_lib.files import atomic_write
from interp_lib.show.media import Media

LIBRARY = Path(__file__).resolve().parents[1]
STYLE = "interp_lib.show.interp"  # interp.mplstyle next to this file, as matplotlib names it


def figure_path(name: str) -> Path:
    """Return the file that a figure of this name, such as "02_flow.png", is written to; its folder is made.

    The folder is $INTERP_FIGURES (notebooks/run.py sets it), else figures/ beside the nearest pyproject.toml above the
    current folder, else figures/ in the current folder.
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"figure name {name!r}: give a file name without a folder, such as '02_flow.png'")
    here = Path.cwd()
    root = next((parent for parent in (here, *here.parents) if (parent / "pyproject.toml").is_file()), here)
    folder = Path(os.environ.get("INTERP_FIGURES", root / "figures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


@cache
def library_hash() -> str:
    """Hash the library's code, the data that it ships (weights, tables), and the lock."""
    root = LIBRARY.parent
    files = [path for path in LIBRARY.rglob("*") if path.suffix in (".py", ".mplstyle")]
    files += [path for path in (root / "data").rglob("*") if path.is_file() and path.suffix != ".md"]
    files += [path for path in [root / "requirements.lock"] if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def save_figure(fig: Figure, name: str, *, alt: str, title: str = "", **provenance: Any) -> Media:
    """Write figures/`name`.png with its provenance and return it: the last line of a cell shows it.

    fig: a matplotlib figure; it is closed, so that the inline backend does not show it a second time. name: lower-case
    letters, digits and underscores, beginning with the notebook's number: "02_flow". alt: what a reader who cannot see
    it needs to know, in a sentence. provenance: whatever made it (seed=0, pair="motorcycle"), JSON values. The metadata
    hold title, alt text, notebook, parameters, a hash of the picture and one of the library; no time, so the same
    inputs give the same bytes, and of an absolute path only its last name, since a figure travels. Raises ValueError
    for another kind of name or an empty alt text.
    """
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"figure name {name!r}: use lower-case letters, digits and underscores only, without .png")
    if not alt.strip():
        raise ValueError(f"figure {name}: the alt text is empty; say in a sentence what the figure shows")
    drawn = io.BytesIO()
    with plt.style.context(STYLE):
        fig.savefig(drawn, format="png", metadata={"Software": None})
    plt.close(fig)
    image, info = Image.open(drawn).convert("RGB"), PngImagePlugin.PngInfo()
    given = json.loads(os.environ.get("INTERP_PARAMETERS") or "{}") | provenance
    paths = {key: Path(x).name for key, x in given.items() if isinstance(x, str | os.PathLike) and os.path.isabs(x)}
    texts = {"Title": title or name, "Description": alt, "Notebook": os.environ.get("INTERP_NOTEBOOK", "")}
    texts["Parameters"] = json.dumps(given | paths, sort_keys=True, default=str)
    texts |= {"Library": library_hash(), "Content": hashlib.sha256(image.tobytes()).hexdigest()}
    for key, text in texts.items():
        info.add_itxt(key, text)
    path = figure_path(f"{name}.png")
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG", pnginfo=info)
    return Media(path, alt)


@plt.style.context(STYLE)
def contact_sheet(
    rows: dict[str, Tensor], *, columns: int = 9, titles: list[str] | None = None, side: float = 1.15
) -> Figure:
    """Draw frames next to each other, one labelled row per method.

    rows: label -> frames [T,3,H,W] in [0,1], every row with the same T. columns: at most so many frames, evenly spaced
    with both ends. titles: one per frame shown, default the position in time from 0 to 1. side: inches per frame.
    """
    if not isinstance(rows, dict):
        raise ValueError(f"contact_sheet needs rows as a dictionary {{label: frames}}, got {type(rows).__name__}")
    check_tensors(**{f"rows[{label!r}]": frames for label, frames in rows.items()})
    columns = check_int("columns", columns, 1)
    lengths = {label: len(frames) for label, frames in rows.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"contact_sheet needs rows with one number of frames, got {lengths}")
    total = next(iter(lengths.values()))
    shown = torch.linspace(0, total - 1, min(columns, total)).round().int().tolist()
    titles = [f"{i / max(total - 1, 1):.2f}" for i in shown] if titles is None else titles
    if len(titles) != len(shown):
        raise ValueError(f"contact_sheet shows {len(shown)} frames and has {len(titles)} titles")
    aspect = max(frames.shape[-2] / frames.shape[-1] for frames in rows.values())
    fig = Figure(figsize=(side * len(shown) + 1.0, (side * aspect + 0.05) * len(rows) + 0.35))
    grid = fig.subplots(len(rows), len(shown), squeeze=False)
    for line, (label, frames) in zip(grid, rows.items(), strict=True):
        for axes, index in zip(line, shown, strict=True):
            axes.imshow(frames[index].detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy())
            _remove_frame(axes)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, text in zip(grid[0], titles, strict=True):
        axes.set_title(text)
    return fig


def _remove_frame(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def flow_to_colour(flow: Tensor, *, largest: float | None = None) -> Tensor:
    """Show flow [N,2,H,W] or [2,H,W] as colours [N,3,H,W] or [3,H,W] in [0,1]: hue is direction, saturation length.

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
    corners = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]]).float()
    counts = (15, 6, 4, 11, 13, 6)  # red-yellow, yellow-green, green-cyan, cyan-blue, blue-magenta, magenta-red
    ramps = [torch.arange(count)[:, None] / count for count in counts]
    return torch.cat([a + (b - a) * ramp for a, b, ramp in zip(corners, corners[1:], ramps, strict=False)])


def flow_legend(axes: Axes, *, largest: float, unit: str = "px") -> None:
    """Draw the colour wheel into `axes`: the colour at a point is that of the vector from the centre to it."""
    largest = check_number("largest", largest, 0)
    line = torch.linspace(-1, 1, 101)
    flow = torch.stack(torch.meshgrid(line, line, indexing="xy"))
    colours = torch.where(flow.norm(dim=0) <= 1, flow_to_colour(flow, largest=1.0), 1.0)
    axes.imshow(colours.permute(1, 2, 0).numpy(), extent=(-1, 1, 1, -1), interpolation="bilinear")
    _remove_frame(axes)
    axes.set_xlabel(f"rim = {largest:.3g} {unit}")
