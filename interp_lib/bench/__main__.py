"""`python -m interp_lib.bench`: time the parts of interpolate and write them as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m interp_lib.bench", description="Time the parts of interpolate.")
    parser.add_argument("--model", default="embedded", help="a diffusers folder or name")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps")
    parser.add_argument("--pair", help="a bundled name or a folder (default: a pair of the procedural world)")
    parser.add_argument("--size", type=_count, help="pixels a side (default: the model's natural size)")
    parser.add_argument("--frames", type=_count, default=7, help="frames between the two images")
    parser.add_argument("--chunk", type=_count, help="frames per U-Net call (default: all)")
    parser.add_argument("--lora-steps", type=_count, default=80, help="steps of the LoRA fit")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    asked = parser.parse_args(arguments)

    from interp_lib import load_image_model, load_pair, render_pair
    from interp_lib.bench.cost import measure_cost
    from interp_lib.files import whole

    options = {"frames": asked.frames, "chunk": asked.chunk, "lora_steps": asked.lora_steps}
    try:
        model = load_image_model(asked.model, device=asked.device)
        size = asked.size or model.native_size
        if size % model.multiple:
            raise ValueError(f"--size {size} does not fit the model: give a multiple of {model.multiple}.")
        pair = load_pair(asked.pair, size=size) if asked.pair else render_pair(0, size=size)
        images = torch.cat([pair.image0, pair.image1])
        if asked.out.is_dir():
            raise ValueError(f"--out {asked.out} is a folder: name a file.")
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        cost = measure_cost(model, images, **options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    machine = {"device": str(model.device), "threads": torch.get_num_threads(), "torch": torch.__version__}
    about = {"model": asked.model, "pair": pair.name, "size": list(images.shape[-2:]), **options, **machine}
    with whole(asked.out) as temporary:
        temporary.write_text(json.dumps(about | cost, indent=1) + "\n")
    for part, seconds in cost["seconds"].items():
        print(f"{part:10} {seconds:8.2f} s")
    calls = ", ".join(f"{count} x batch {size}" for size, count in cost["unet_calls"].items())
    print(f"U-Net calls: {calls}; overhead {cost['overhead']:.2f}; peak memory {cost['peak_memory_mib']:.0f} MiB")
    print(f"written to {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
