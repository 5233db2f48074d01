"""What `make bench` found, in words: what it prints of each part, and the table of docs/gpu.md.

`python -m interp_lib.bench.speed.measured --write docs/gpu.md`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp_lib.bench import page
from interp_lib.cli_help import Parser

FOLDER = Path(__file__).parents[3] / "data" / "results" / "speed"  # files of `make bench`, a column each
COMMAND = "interp_lib.bench.speed.measured"
ENTIRE = (
    ("seconds", "seconds, without the LoRA's fit"),
    ("unet_calls", "U-Net calls"),
    ("memory_mib", "MiB at the highest"),
    ("share", "of the operations a second that a product of matrices reaches here, by the U-Net's alone"),
    ("psnr", "dB of the frames against float32"),
)
FIGURES = {  # part -> names of what was measured and what it means
    "overhead": (("overhead", "interpolate over the bare U-Net calls it needs"),),
    "flow": (("faster", "times faster than a loop over positions"), ("agree", "share of matches that agree")),
    "chunks": (("difference", "largest difference of a pixel, in chunks or not"),),
    "growth": (("growth", "of the memory for the fewest frames, by the most"),),
    "lora": (("lora_over_bare", "a LoRA step over a bare forward and backward pass"),),
    "dual": (
        ("overhead", "inbetween over the bare U-Net calls it needs"),
        ("against_two", "of the time of two networks with stored maps"),
        ("saved", "of a U-Net and its maps, that much less memory than they hold"),
        ("whole_against_two", "of their time, where no call is lean"),
        ("whole_saved", "of a U-Net and its maps, that much less memory, likewise"),
        ("difference", "apart from them, in standard deviations"),
        ("unet_weights_mib", "MiB of a U-Net's weights"),
        ("maps_mib", "MiB of the maps that two networks store"),
        ("deltas_mib", "MiB that a tuned U-Net has more, which one network must hold beside its weights"),
    ),
}


def say(part: str, found: dict[str, Any]) -> None:
    """Print what was measured of a part."""
    for name, meaning in FIGURES.get(part, ENTIRE):
        if name in found and not isinstance(found[name], dict):
            print(f"{part:9} {found[name]:10.4g}  {meaning}")
    if part == "parts":
        print(f"{part:9} " + ", ".join(f"{name} {spent:.2f} s" for name, spent in found["seconds"].items()))
    if isinstance(found.get("memory_mib"), dict):
        print(f"{part:9} " + ", ".join(f"{name}: {mib:.0f} MiB" for name, mib in found["memory_mib"].items()))
    for row in found.get("by_frames", []) + found.get("by_size", []):
        print(f"{part:9} {row['frames']} frames of {row['size']} px: {row['memory_mib']:.0f} MiB beyond them")


def report(columns: Sequence[dict[str, Any]]) -> str:
    """A table in Markdown, a column for each file of `make bench`: the figures, and the memory of dual sampling."""
    rows = [
        [f"`{part}`: {meaning}", *_cells(columns, part, name, "{:.4g}")]
        for part, shown in FIGURES.items()
        for name, meaning in shown
    ]
    ways = dict.fromkeys(way for found in columns for way in found.get("dual", {}).get("memory_mib", {}))
    inner = [found | {"dual": found.get("dual", {}).get("memory_mib", {})} for found in columns]
    rows += [[f"`dual`: MiB at the highest, {way}", *_cells(inner, "dual", way, "{:.0f}")] for way in ways]
    rows = [row for row in rows if any(row[1:])]
    return "\n".join(page.table(["", *map(_title, columns)], rows)) + "\n"


def _cells(columns: Sequence[dict[str, Any]], part: str, name: str, form: str) -> list[str]:
    return [form.format(found[part][name]) if name in found.get(part, {}) else "" for found in columns]


def _title(found: dict[str, Any]) -> str:
    """The models that were measured and their settings: of images, of videos, or both."""
    about, video = found["about"], {"dual", "video"} & found.keys()
    parts = []
    if found.keys() - {"about", "dual", "video"}:
        parts.append(f"{Path(about['model']).name}: {about['size']} px, {about['frames']} frames")
    if video:
        sides = "x".join(map(str, about["video_size"]))
        parts.append(f"{Path(about['video_model']).name}: {sides} px, {about['video_frames']} frames")
    return "; ".join(parts) + f", steps: {about['steps']}, threads: {about['threads']}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): give a file of `make bench`.") from None
    if not isinstance(found, dict) or "about" not in found:
        raise ValueError(f"{path} is no result of `make bench`: it does not say what was measured.")
    return found


def main(arguments: list[str] | None = None) -> int:
    asked = make_parser().parse_args(arguments)
    files = asked.results or sorted(FOLDER.glob("*.json"))
    return page.run(lambda: report([_read(path) for path in files]), asked.write, COMMAND)


def make_parser() -> Parser:
    examples = {"": "print the table of what is in data/results/speed", "build/bench.json": "of a run of `make bench`"}
    parser = Parser(prog=f"python -m {COMMAND}", description=__doc__, examples=examples)
    parser.add_argument("results", nargs="*", type=Path, metavar="FILE", help="of `make bench`, a column each")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose marked part is replaced")
    return parser


if __name__ == "__main__":
    sys.exit(main())
