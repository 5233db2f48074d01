"""`python -m interp_lib.bench` (`make bench`): how fast and in how much memory, as ratios measured in one run."""

from __future__ import annotations

if __name__ == "__main__":
    from interp_lib.interrupt import expect_interrupt

    expect_interrupt("interp_lib.bench: interrupted; the parts that were finished are in the file")

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from interp_lib.cli_help import Parser
from interp_lib.files import atomic_write

Asked = argparse.Namespace


def _parts(asked: Asked) -> dict[str, Any]:
    from interp_lib import load_image_model
    from interp_lib.bench.speed.image import half
    from interp_lib.bench.speed.parts import measure_parts

    model = load_image_model(asked.model, device=asked.device)
    how = {"frames": asked.frames, "batch_size": asked.batch_size, "lora_steps": asked.lora_steps}
    return measure_parts(
        model, _pair(asked), steps=asked.steps, inversion_steps=asked.inversion_steps or half(asked.steps), **how
    )


def _overhead(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.image import measure_overhead

    how = {"size": asked.size, "frames": asked.frames, "steps": asked.steps, "batch_size": asked.batch_size}
    return measure_overhead(asked.model, device=asked.device, **how)


def _flow(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.image import measure_flow

    return measure_flow(side=asked.positions, channels=asked.channels, device=_plain(asked.device))


def _chunks(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.image import measure_chunks

    how = {"size": asked.size, "frames": asked.frames, "steps": asked.steps, "batch_size": max(1, asked.frames // 4)}
    return measure_chunks(asked.model, device=asked.device, **how)


def _growth(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.image import measure_growth

    sizes = (asked.size, 2 * asked.size)
    how = {"counts": (32, 256), "sizes": sizes, "steps": 2, "batch_size": asked.batch_size or 8}
    return measure_growth(asked.model, device=asked.device, **how)


def _lora(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.image import measure_lora

    return measure_lora(asked.model, size=asked.size, device=asked.device)


def _dual(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.dual import measure_dual

    how = {"size": asked.video_size, "frames": asked.video_frames, "steps": asked.steps}
    how["recurrence"] = asked.recurrence
    return measure_dual(asked.video_model, device=asked.device, **how)


def _image(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.entire import measure_image
    from interp_lib.bench.speed.image import half

    how = {name: getattr(asked, name) for name in ("frames", "steps", "lora_steps", "batch_size", "device", "offload")}
    inversion_steps = asked.inversion_steps or half(asked.steps)
    return measure_image(asked.model, _pair(asked), inversion_steps=inversion_steps, dtype=_dtype(asked), **how)


def _video(asked: Asked) -> dict[str, Any]:
    from interp_lib.bench.speed.entire import measure_video

    images = torch.rand(2, 3, *asked.video_size, generator=torch.Generator().manual_seed(0))
    how = {name: getattr(asked, name) for name in ("steps", "recurrence", "device", "offload")}
    return measure_video(asked.video_model, images, frames=asked.video_frames, dtype=_dtype(asked), **how)


def _pair(asked: Asked) -> torch.Tensor:
    from interp_lib import load_pair, render_pair

    pair = load_pair(asked.pair, size=asked.size) if asked.pair else render_pair(0, size=asked.size)
    return torch.cat([pair.image0, pair.image1])


def _dtype(asked: Asked) -> torch.dtype:
    return getattr(torch, asked.dtype)


PARTS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "parts": _parts,
    "overhead": _overhead,
    "flow": _flow,
    "chunks": _chunks,
    "growth": _growth,
    "lora": _lora,
    "dual": _dual,
    "image": _image,
    "video": _video,
}
VIDEO = ("dual", "video")
DTYPES = ("float32", "float16", "bfloat16")


def main(arguments: list[str] | None = None) -> int:
    from interp_lib.bench.speed.measured import say
    from interp_lib.bench.speed.plot import plot

    asked = make_parser().parse_args(arguments)
    try:
        _check(asked)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = {"about": _about(asked)}
        for part in asked.parts or PARTS:
            print(f"{part} ...", flush=True)
            found[part] = PARTS[part](asked)
            say(part, found[part])
            with atomic_write(asked.out) as temporary:  # after every part: an interrupted run keeps what it has
                temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    picture = plot(found)
    print(f"written to {asked.out}" + (f" and {picture.path}" if picture else ""))
    return 0


def _check(asked: Asked) -> None:
    """Everything that can be wrong, before anything is timed; sizes that were not given are the models' own."""
    from interp_lib import load_image_model, load_pair, load_video_model

    if unknown := [part for part in asked.parts if part not in PARTS]:
        raise ValueError(f"there is no part {unknown[0]!r}: there are {', '.join(PARTS)}.")
    if asked.out.is_dir():
        raise ValueError(f"--out {asked.out} is a folder: name a file.")
    if any(part not in VIDEO for part in asked.parts or PARTS):
        model = load_image_model(asked.model, device=asked.device)
        asked.size = asked.size or model.native_size
        if asked.size % model.multiple:
            raise ValueError(f"--size {asked.size} does not fit the model: give a multiple of {model.multiple}.")
        if asked.pair:
            load_pair(asked.pair, size=asked.size)
    if any(part in VIDEO for part in asked.parts or PARTS):
        video = load_video_model(asked.video_model, device=asked.device)
        asked.video_size = asked.video_size or (video.native_size, video.native_size)
        asked.video_frames = asked.video_frames or video.frames
        if any(n % video.multiple for n in asked.video_size):
            raise ValueError(f"--video-size {asked.video_size}: give multiples of {video.multiple}.")


def _about(asked: Asked) -> dict[str, Any]:
    device = _plain(asked.device)
    card = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    machine = {"on": card, "threads": torch.get_num_threads(), "torch": torch.__version__}
    return {name: value for name, value in vars(asked).items() if name not in ("out", "parts")} | machine


def _plain(device: str) -> str:
    from interp_lib.models.folder import pick_device

    return str(pick_device(device))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def _sides(text: str) -> tuple[int, int]:
    sides = [_count(part) for part in text.split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give pixels as HxW, or one number for both")
    return sides[0], sides[-1]


def make_parser() -> Parser:
    examples = {
        "": "all parts, with the embedded models, on this machine",
        "parts lora --model path/to/model --size 512 --device cuda": "two parts, another model",
    }
    parser = Parser(prog="python -m interp_lib.bench", description=__doc__, examples=examples)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which (default: all of {', '.join(PARTS)})")
    parser.add_argument("--model", default="embedded", help="image model: a diffusers folder or name")
    parser.add_argument("--video-model", default="embedded", help="video model: a diffusers folder or name")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps")
    parser.add_argument("--pair", help="a bundled name or a folder (default: a pair of the procedural world)")
    parser.add_argument("--size", type=_count, help="pixels a side (default: the model's natural size)")
    parser.add_argument("--video-size", type=_sides, metavar="HxW", help="likewise of the video model: 576x1024, or 64")
    parser.add_argument("--frames", type=_count, default=8, help="frames between the two images")
    parser.add_argument("--video-frames", type=_count, help="frames of a video (default: the model's own)")
    parser.add_argument("--batch-size", type=_count, help="frames per U-Net call (default: all)")
    parser.add_argument("--steps", type=_count, default=8, help="of the schedule")
    parser.add_argument(
        "--inversion-steps", type=_count, help="noise step at which the images are fused (default: half of them)"
    )
    parser.add_argument("--recurrence", type=_count, default=2, help="of the video's early steps")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of image, video")
    parser.add_argument("--offload", action="store_true", help="networks take turns on the device, in image and video")
    parser.add_argument("--lora-steps", type=_count, default=8, help="steps of the LoRA fit that is timed")
    parser.add_argument("--positions", type=_count, default=64, help="of the flow, a side")
    parser.add_argument("--channels", type=_count, default=1280, help="of the features of the flow")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="file for the result")
    return parser


if __name__ == "__main__":
    sys.exit(main())
