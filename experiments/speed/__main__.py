"""`python -m experiments.speed` (`make bench`): how fast and in how much memory, as ratios measured in one run."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import timer

from experiments.speed import dual, image
from experiments.speed.timing import peak_memory
from interp_lib.bench.metrics import psnr
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.files import atomic_write
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models import load_image_model, load_video_model
from interp_lib.models.folder import pick_device


def end_to_end(args: argparse.Namespace, *, video: bool) -> dict[str, Any]:
    """Measure `interpolate` (without a LoRA) or `inbetween`, from images to frames.

    Returns seconds, U-Net calls, MiB at the highest, and in half precision the PSNR of the frames against float32.
    """
    options: dict[str, Any] = {"steps": args.steps, "progress": False}
    if video:
        load, source, method, size = dual.load_with_deltas, args.video_model, inbetween, args.video_size
        options |= {"frames": args.video_frames, "recurrence": args.recurrence, "size": tuple(size)}
    else:
        load, source, method, size = load_image_model, args.model, interpolate, (args.size, args.size)
        options |= {"frames": args.frames, "batch_size": args.batch_size, "lora": False}
        options["inversion_steps"] = args.inversion_steps or max(1, args.steps // 2)
    images = image.random_images(*size).split(1)

    def run(dtype: torch.dtype) -> tuple[torch.Tensor, dict[str, Any]]:
        model, start = load(source, device=args.device, dtype=dtype, offload=args.offload), timer()
        result, mib = peak_memory(lambda: method(model, *images, **options), model.device)
        found = {"seconds": timer() - start, "unet_calls": result.unet_calls, "memory_mib": mib}
        return result.frames[1:-1], found

    frames, found = run(getattr(torch, args.dtype))
    if args.dtype != "float32":
        found["psnr"] = float(psnr(frames, run(torch.float32)[0]).mean())
    return found


PARTS = {"overhead": image.overhead, "flow": image.flow, "lora": image.lora, "dual": dual.dual}
PARTS |= {"image": lambda args: end_to_end(args, video=False), "video": lambda args: end_to_end(args, video=True)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.speed", description=__doc__)
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"which (default: all of {', '.join(PARTS)})")
    add("--model", default="embedded", help="image model: a diffusers folder or name")
    add("--video-model", default="embedded", help="video model: a diffusers folder or name")
    add("--device", default="auto", help="cpu, cuda, mps")
    add("--size", type=int, help="pixels a side (default: the model's natural size)")
    add("--video-size", type=int, nargs=2, metavar=("H", "W"), help="likewise of the video model")
    add("--frames", type=int, default=8, help="frames between the two images")
    add("--video-frames", type=int, help="frames of a video (default: the model's own)")
    add("--batch-size", type=int, help="frames per U-Net call (default: all)")
    add("--steps", type=int, default=8, help="of the schedule")
    add("--inversion-steps", type=int, help="noise step at which the images are fused (default: half of them)")
    add("--recurrence", type=int, default=2, help="of the video's early steps")
    add("--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="of image and video")
    add("--offload", action="store_true", help="networks take turns on the device, in image and video")
    add("--out", type=Path, default=Path("build/bench.json"), help="file for the result")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}: there are {', '.join(PARTS)}")
    try:
        run(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def run(args: argparse.Namespace) -> None:
    """Measure the parts, print each figure, and write the file after each: an interrupted run keeps what it has."""
    args.device = str(pick_device(args.device))
    args.size = args.size or load_image_model(args.model, device=args.device).native_size
    video = load_video_model(args.video_model, device=args.device)
    args.video_size = args.video_size or [video.native_size] * 2
    args.video_frames = args.video_frames or video.frames
    about = {name: value for name, value in vars(args).items() if name not in ("out", "parts")}
    found: dict[str, Any] = {"about": about | {"threads": torch.get_num_threads(), "torch": torch.__version__}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for part in args.parts or PARTS:
        found[part] = PARTS[part](args)
        for name, value in found[part].items():
            if not isinstance(value, (list, dict)):
                print(f"{part:9} {value:10.4g}  {name}", flush=True)
        with atomic_write(args.out) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
