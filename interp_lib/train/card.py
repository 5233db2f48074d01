"""Put the measured figures and the loss curves into the model card, between its two marks; the prose around them is
written by hand."""

from __future__ import annotations

import json
from pathlib import Path

from interp_lib.files import whole

STAGES = {"vae": "autoencoder", "unet": "U-Net"}
BEGIN, END = "<!-- measured by interp_lib.train.card -->", "<!-- end of the measured part -->"
# row: the least that is asked, None where the number is there for comparison; and its unit
ROWS: dict[str, tuple[float | None, str]] = {
    "autoencoder PSNR, world": (30.0, "dB"),
    "autoencoder PSNR, photographs": (24.0, "dB"),
    "round trip, world": (40.0, "dB"),
    "round trip, photographs": (None, "dB"),
    "round trip, motorcycle with LoRA": (30.0, "dB"),
    "PCK@0.1 hard, trained": (70.0, "%"),
    "PCK@0.1 hard, untrained": (None, "%"),
    "PCK@0.1 hard, raw patches": (None, "%"),
    "trained above untrained": (20.0, "points"),
    "trained above raw patches": (20.0, "points"),
    "PCK@0.1 hard, third up-block": (None, "%"),
    "PCK@0.1 hard, trained, 256 px": (None, "%"),
    "PCK@0.1 easy, trained": (85.0, "%"),
    "PCK@0.1 easy, untrained": (None, "%"),
    "PCK@0.1 easy, raw patches": (None, "%"),
    "two-level above direct": (95.0, "%"),
    "median EPE motorcycle, trained": (None, "px"),
    "median EPE motorcycle, third up-block": (None, "px"),
    "median EPE motorcycle, raw patches": (None, "px"),
    "median EPE motorcycle, zero flow": (None, "px"),
    "eps error, right caption": (None, ""),
    "eps error, wrong caption": (None, ""),
    "pairs of the hard flow rows": (None, ""),
    "pairs of the other rows": (None, ""),
}


def write_card(folder: Path, measured: dict[str, float], *, recipe: dict, logs: Path) -> None:
    """Renew `README.md`, `quality.json` and `curves.png` in `folder` from what interp_lib.train.quality measured."""
    measured = {row: round(value, 3) for row, value in measured.items()}
    content = json.dumps({"recipe": recipe, "measured": measured}, indent=2) + "\n"
    with whole(folder / "quality.json") as path:
        path.write_text(content)
    if all((logs / f"{name}.jsonl").exists() for name in STAGES):
        with whole(folder / "curves.png") as path:
            _curves(path, logs)
    card = folder / "README.md"
    text = card.read_text() if card.exists() else f"# Embedded models\n\n{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    steps = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.items())
    body = f"\nRecipe: {steps}.\n\n{table(measured)}\n\n"
    body += "![Loss of the autoencoder and of the U-Net over training steps, both falling.](curves.png)\n"
    with whole(card) as path:
        path.write_text(head + BEGIN + body + END + tail)


def table(measured: dict[str, float]) -> str:
    """The quality table in Markdown."""
    lines = ["| quality | at least | reached | |", "|---|---|---|---|"]
    for row, (floor, unit) in ROWS.items():
        value = measured[row]
        digits = 1 if unit not in ("", "px") else 2 if unit else 0 if value == int(value) else 4
        asked = "" if floor is None else f"{floor:g} {unit}"
        verdict = "" if floor is None else "met" if value >= floor else "not met"
        lines.append(f"| {row} | {asked} | {value:.{digits}f} {unit} | {verdict} |")
    return "\n".join(lines)


def _curves(path: Path, logs: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), STAGES.items(), strict=True):
        lines = {
            line["step"]: line["loss"] for line in map(json.loads, (logs / f"{name}.jsonl").read_text().splitlines())
        }
        axes.plot(list(lines), list(lines.values()), lw=1)
        axes.set(title=title, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
