"""Put the measured figures and the loss curves into the model card, between its two marks; the prose around them is
written by hand."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interp_lib.files import atomic_write

Rows = dict[str, tuple[float | None, str]]  # the least that is asked for, None for a row of comparison; its unit
Measured = dict[str, float | tuple[float, float, int]]  # a value, or mean, standard deviation and number of pairs


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
        "world: dissolve, PSNR": (None, "dB"),
        "world: pixels, PSNR": (None, "dB"),
        "world: latents, PSNR": (None, "dB"),
        "world: autoencoder, PSNR": (30.0, "dB"),
        "world: latents along the true flow, share of the gain": (80.0, "%"),
        "world: film, default, share of the gain": (65.0, "%"),
        "world: film, T = 30, share of the gain": (50.0, "%"),
        "world: film, default, true flow, share of the gain": (90.0, "%"),
        "world: film, T = 30, true flow, share of the gain": (75.0, "%"),
        **{
            f"{name}: PCK@0.1, {estimator}": (floor if estimator == "features" else None, "%")
            for name, floor in (("world", 92.0), ("strangers", 85.0))
            for estimator in ("features", "paper's up-block", "untrained features", "raw patches", "block matching")
        },
        "world: round trip, PSNR": (40.0, "dB"),
        "world: two-level above direct fusion in high-frequency energy": (95.0, "%"),
        "world: attention replacement is better than none": (80.0, "%"),
        "strangers: attention replacement is better than none": (80.0, "%"),
        "strangers: the pair's LoRA is better than none": (70.0, "%"),
        "strangers: the pair's LoRA is better than another pair's": (70.0, "%"),
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


def write_card(folder: Path, card: Card, measured: Measured, *, recipe: dict, logs: Path) -> None:
    """Renew a model's part of `README.md`, its `*_quality.json` and its `*_curves.png` in `folder`."""
    measured = {row: [round(x, 3) for x in np.atleast_1d(value).tolist()] for row, value in measured.items()}
    content = json.dumps({"recipe": recipe, "measured": measured}) + "\n"
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


def table(card: Card, measured: dict[str, list[float]]) -> str:
    """Format the card's rows in Markdown: the value, and its spread and the number of pairs where they are known."""
    lines = ["| quality | at least | reached | spread | pairs | |", "|---|---|---|---|---|---|"]
    for row, (floor, unit) in card.rows.items():
        value, *rest = measured[row]
        spread, count = (f"{rest[0]:.1f}", f"{rest[1]:.0f}") if rest else ("", "")
        asked = "" if floor is None else f"{floor:g} {unit}"
        verdict = "" if floor is None else "met" if value >= floor else "not met"
        number = f"{value:.{0 if not unit and value == int(value) else 1 if unit else 4}f} {unit}"
        lines.append(f"| {row} | {asked} | {number} | {spread} | {count} | {verdict} |")
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
