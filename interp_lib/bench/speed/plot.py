"""The table of `make bench` as one figure: ratios to what cannot be avoided, and how memory grows."""

from __future__ import annotations

from typing import Any

from interp_lib.show.figure import figure_style, save_figure
from interp_lib.show.media import Media

RATIOS = {
    ("overhead", "overhead"): "interpolate / bare U-Net calls",
    ("dual", "overhead"): "inbetween / bare U-Net calls",
    ("dual", "against_two"): "inbetween / two networks",
    ("lora", "lora_over_bare"): "LoRA step / forward and backward",
}


def plot(found: dict[str, Any]) -> Media | None:
    """Write figures/bench.png from what was measured; None where no part of it can be drawn."""
    ratios = {label: found[part][name] for (part, name), label in RATIOS.items() if part in found}
    growth = found.get("growth")
    if not ratios and not growth:
        return None
    import matplotlib.pyplot as plt

    with figure_style():
        fig, axes = plt.subplots(1, 2 if ratios and growth else 1, figsize=(9, 2.8), squeeze=False)
        if ratios:
            _draw_ratios(axes[0, 0], ratios)
        if growth:
            _draw_growth(axes[0, -1], growth)
        said = [f"{label} {value:.2f}" for label, value in ratios.items()]
        alt = "; ".join(["Ratios of time: " + ", ".join(said)] * bool(said) + ["Peak memory by frames."] * bool(growth))
        return save_figure(fig, "bench", alt=alt, **{k: found["about"][k] for k in ("model", "video_model", "on")})


def _draw_ratios(ax: Any, ratios: dict[str, float]) -> None:
    ax.barh(list(ratios), list(ratios.values()), height=0.5, color="C0")
    ax.axvline(1, color="0.3", lw=1)
    for y, value in enumerate(ratios.values()):
        ax.text(value, y, f" {value:.2f}", va="center")
    ax.set(xlabel="time, as a ratio", xlim=(0, 1.25 * max(1, *ratios.values())))
    ax.invert_yaxis()


def _draw_growth(ax: Any, growth: dict[str, Any]) -> None:
    """Memory beyond the returned frames, against their number and against the pixels of one."""
    for name, label in (("by_frames", "more frames"), ("by_size", "larger frames")):
        rows = sorted(growth[name], key=lambda row: row["frames"] * row["size"] ** 2)
        pixels = [row["frames"] * row["size"] ** 2 / 1e6 for row in rows]
        ax.plot(pixels, [row["memory_mib"] for row in rows], "o-", label=label)
        for x, row in zip(pixels, rows, strict=True):
            ax.annotate(
                f"{row['frames']} of {row['size']} px",
                (x, row["memory_mib"]),
                xytext=(4, 5),
                textcoords="offset points",
                fontsize=8,
            )
    ax.set(xlabel="pixels in all, millions", ylabel="peak memory, MiB", ylim=(0, None))
    ax.legend(loc="lower right")
