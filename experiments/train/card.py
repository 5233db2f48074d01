"""Put the measured figures and the loss curves into the model card, between its two marks; the prose around them is
written by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from interp_lib.files import atomic_write

Rows = dict[str, tuple[float | None, str]]  # the least that is asked, None where it is there for comparison; its unit


@dataclass(frozen=True)
class Card:
    """One model's part of data/models/README.md. stages: log of a training stage -> its name in the picture."""

    name: str
    rows: Rows
    stages: dict[str, str]

    @property
    def marks(self) -> tuple[str, str]:
        return (
            f"<!-- {self.name} model, measured by experiments.train.card -->",
            f"<!-- end of the {self.name} model -->",
        )


IMAGE_CARD = Card(
    "image",
    {
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
    },
    {"vae": "autoencoder", "unet": "U-Net"},
)
VIDEO_CARD = Card(
    "video",
    {
        "autoencoder PSNR, clips": (30.0, "dB"),
        "autoencoder PSNR, photographs": (24.0, "dB"),
        "forward: the actor goes where it faces": (90.0, "%"),
        "backward: the actor comes from behind": (90.0, "%"),
        "the same, all tuned, no maps": (None, "%"),
        "the same, rotated maps without the fine-tune": (None, "%"),
        "the same, rotated and tuned, from one image alone": (None, "%"),
        "the same, the forward model played backwards": (None, "%"),
        "given image in its video, forward": (None, "dB"),
        "given image in its video, backward": (None, "dB"),
        "first keyframe reached": (None, "dB"),
        "last keyframe reached": (None, "dB"),
        "keyframes as the autoencoder returns them": (None, "dB"),
        "first frame against last frame": (None, "dB"),
        "speed asked for and made, correlation": (None, ""),
        "balls: maps of another clip decide the way": (None, "%"),
        "clips of the forward and backward rows": (None, ""),
        "clips of the rows for comparison": (None, ""),
    },
    {"video_vae": "autoencoder", "video_unet": "U-Net"},
)


def write_card(folder: Path, card: Card, measured: dict[str, float], *, recipe: dict, logs: Path) -> None:
    """Renew a model's part of `README.md`, its `*_quality.json` and its `*_curves.png` in `folder`."""
    measured = {row: round(value, 3) for row, value in measured.items()}
    content = json.dumps({"recipe": recipe, "measured": measured}, indent=2) + "\n"
    with atomic_write(folder / f"{card.name}_quality.json") as path:
        path.write_text(content)
    if all((logs / f"{name}.jsonl").exists() for name in card.stages):
        with atomic_write(folder / f"{card.name}_curves.png") as path:
            _curves(path, card, logs)
    begin, end = card.marks
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else "# Embedded models\n"
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    steps = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.items())
    body = f"\nRecipe: {steps}.\n\n{table(card, measured)}\n\n"
    body += f"![Loss of autoencoder and U-Net over training steps, both falling.]({card.name}_curves.png)\n"
    with atomic_write(readme) as path:
        path.write_text(head + begin + body + end + tail)


def table(card: Card, measured: dict[str, float]) -> str:
    """The quality table in Markdown."""
    lines = ["| quality | at least | reached | |", "|---|---|---|---|"]
    for row, (floor, unit) in card.rows.items():
        value = measured[row]
        digits = 1 if unit not in ("", "px") else 2 if unit else 0 if value == int(value) else 4
        asked = "" if floor is None else f"{floor:g} {unit}"
        verdict = "" if floor is None else "met" if value >= floor else "not met"
        lines.append(f"| {row} | {asked} | {value:.{digits}f} {unit} | {verdict} |")
    return "\n".join(lines)


def _curves(path: Path, card: Card, logs: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), card.stages.items(), strict=True):
        lines = {
            line["step"]: line["loss"] for line in map(json.loads, (logs / f"{name}.jsonl").read_text().splitlines())
        }
        axes.plot(list(lines), list(lines.values()), lw=1)
        axes.set(title=title, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
