"""Put the measured figures and the loss curves into the model card, between its two marks; the prose around them is
written by hand."""

from __future__ import annotations

import json
from pathlib import Path

from ..models import load_image_model
from .loop import write_whole
from .quality import measure

BEGIN, END = "<!-- measured by interp_lib.train.card -->", "<!-- end of the measured part -->"
# row: what is asked (DESIGN's floor), or None where the number is there for comparison
ROWS: dict[str, tuple[float, str] | None] = {
    "autoencoder PSNR, world": (30.0, "dB"),
    "autoencoder PSNR, photographs": (24.0, "dB"),
    "round trip, world": (40.0, "dB"),
    "round trip, photographs": None,
    "round trip, photographs with LoRA": (30.0, "dB"),
    "PCK@0.1 hard, trained": (70.0, "%"),
    "PCK@0.1 hard, untrained": None,
    "PCK@0.1 hard, raw patches": None,
    "PCK@0.1 easy, trained": (85.0, "%"),
    "PCK@0.1 easy, untrained": None,
    "PCK@0.1 easy, raw patches": None,
    "two-level above direct": (95.0, "%"),
    "median EPE motorcycle, features": None,
    "median EPE motorcycle, raw patches": None,
    "eps error, right caption": None,
    "eps error, wrong caption": None,
}


def write_card(model: Path, *, recipe: dict, logs: Path, pairs: int = 200) -> None:
    """Measure the model in `model` and renew `README.md`, `quality.json` and `curves.png` in the folder above it."""
    folder = model.parent
    measured = measure(load_image_model(model), pairs=pairs)
    content = json.dumps({"pairs": pairs, "recipe": recipe, "measured": measured}, indent=2) + "\n"
    write_whole(folder / "quality.json", lambda path: path.write_text(content))
    write_whole(folder / "curves.png", lambda path: _curves(path, logs))
    card = folder / "README.md"
    text = card.read_text() if card.exists() else f"# Embedded models\n\n{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    steps = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.items())
    body = f"\nMeasured on {pairs} held-out pairs; recipe: {steps}.\n\n{table(measured)}\n\n"
    body += "![Loss of the autoencoder and of the U-Net over training steps, both falling.](curves.png)\n"
    write_whole(card, lambda path: path.write_text(head + BEGIN + body + END + tail))


def table(measured: dict[str, float]) -> str:
    """The quality table in Markdown."""
    lines = ["| quality | at least | reached | |", "|---|---|---|---|"]
    for row, asked in ROWS.items():
        value = measured[row]
        if asked is None:
            lines.append(f"| {row} | | {value:.2f} | |")
        else:
            floor, unit = asked
            lines.append(
                f"| {row} | {floor:g} {unit} | {value:.1f} {unit} | {'met' if value >= floor else 'not met'} |"
            )
    return "\n".join(lines)


def _curves(path: Path, logs: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), {"vae": "autoencoder", "unet": "U-Net"}.items(), strict=True):
        lines = {
            line["step"]: line["loss"] for line in map(json.loads, (logs / f"{name}.jsonl").read_text().splitlines())
        }
        axes.plot(list(lines), list(lines.values()), lw=1)
        axes.set(title=title, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
