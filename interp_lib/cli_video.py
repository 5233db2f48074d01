"""The commands of the video half: `inbetween` makes a video between keyframes, `fit-backward` the deltas it needs."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from interp_lib.cli_help import add_dtype, read_dtype

METHODS = ("dual", "no-rotation", "no-finetune", "trf", "vibid", "vibid-plain", "forward")


def add_commands(commands: Any, types: Any) -> None:
    """types: the argument parsers of interp_lib.cli (count, rate, size, check_output)."""
    command = commands.add_parser(
        "inbetween",
        help="make a video between two keyframes",
        description="Make a video between two keyframes (Generative Inbetweening) and save it.",
        examples={
            "first.png last.png -o out.mp4": "the embedded model",
            "first.png last.png -o out.mp4 --model stabilityai/stable-video-diffusion-img2vid-xt --size 1024x576 "
            "--reverse deltas.safetensors": "real weights, with what fit-backward has made",
            "first.png last.png -o out.mp4 --method trf --steps 25": "a method that needs no deltas",
        },
    )
    command.set_defaults(run=lambda args: _inbetween(args, types.check_output))
    command.add_argument("input", nargs="+", help="two image files, or one folder, or one bundled pair")
    command.add_argument("-o", "--output", required=True, type=Path, help="video to write: .mp4 .gif .webp")
    command.add_argument("--method", choices=METHODS, default="dual", help="how: dual and no-rotation need deltas")
    command.add_argument("--preset", choices=("paper", "released"), default="paper", help="settings of paper or code")
    command.add_argument("--frames", type=types.count(2), metavar="N", help="frames in all (default: the model's own)")
    command.add_argument("--steps", type=types.count(1), default=50, metavar="N", help="steps of the noise schedule")
    command.add_argument("--recurrence", type=types.count(0), default=5, metavar="N", help="repeats of an early step")
    command.add_argument(
        "--motion-bucket-id", type=float, default=127, metavar="X", help="how much motion (SVD: 0 to 255)"
    )
    command.add_argument("--fps", type=types.rate, default=7.0, help="frames per second of the video")
    _add_model(command, types)


def add_fit(commands: Any, types: Any) -> None:
    command = commands.add_parser(
        "fit-backward",
        help="teach a video model to go backwards in time",
        description="Fit the backward-motion deltas (Alg. 1) on a folder of videos or of folders of frames; resumes. "
        "Several devices: accelerate launch -m interp_lib fit-backward ...",
        examples={
            "videos/ -o deltas.safetensors --model stabilityai/stable-video-diffusion-img2vid --size 1024x576 "
            "--gradient-checkpointing": "real weights",
            "videos/ -o deltas.safetensors --steps 20": "a quick try with the embedded model",
        },
    )
    command.set_defaults(run=_fit)
    command.add_argument("clips", type=Path, help="a folder of videos, or of folders that hold frames")
    command.add_argument("-o", "--output", required=True, type=Path, help="safetensors file for the deltas")
    command.add_argument("--frames", type=types.count(2), metavar="N", help="frames a clip (default: the model's own)")
    command.add_argument("--stride", type=types.count(1), default=2, metavar="N", help="every how manieth frame")
    command.add_argument("--windows", type=types.count(1), default=1, metavar="N", help="clips a video at most")
    command.add_argument("--steps", type=types.count(1), default=1000, metavar="N", help="training steps")
    command.add_argument("--lr", type=float, default=1e-4, help="learning rate")
    command.add_argument("--batch", type=types.count(1), default=1, metavar="N", help="clips a step and device")
    command.add_argument("--no-rotation", action="store_true", help="all four projections, no maps (the ablation)")
    command.add_argument("--gradient-checkpointing", action="store_true", help="less memory, the same result")
    _add_model(command, types, reverse=False)


def _add_model(command: Any, types: Any, *, reverse: bool = True) -> None:
    group = command.add_argument_group("model")
    group.add_argument("--model", default="embedded", help='"embedded", a diffusers folder, or a hub name')
    if reverse:
        group.add_argument("--reverse", default="auto", help="backward-motion deltas, a file of fit-backward")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add_dtype(group)
    group.add_argument("--size", type=types.size, metavar="N|WxH", help="pixels (default: about the model's own area)")
    group.add_argument("--seed", type=types.count(0), default=0, metavar="N", help="same seed, same result")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress bars, print only errors")


def _inbetween(args: argparse.Namespace, check_output: Any) -> int:
    check_output(args.output)
    if len(args.input) > 2:
        raise ValueError(f"{len(args.input)} inputs were given: name two images, or one folder or bundled pair.")
    from interp_lib.pairs import load_pair

    pair = load_pair(args.input[0] if len(args.input) == 1 else tuple(args.input), size=args.size)
    from interp_lib import inbetween, load_video_model, save_video
    from interp_lib.images import area_size

    start = time.perf_counter()
    model = load_video_model(args.model, device=args.device, dtype=read_dtype(args.dtype), reverse=args.reverse)
    own = area_size(*pair.image0.shape[-2:], side=model.native_size, multiple=model.multiple)
    names = ("method", "preset", "frames", "steps", "recurrence", "motion_bucket_id", "fps", "seed")
    how = {name: getattr(args, name) for name in names}
    size = args.size or own
    result = inbetween(model, pair.image0, pair.image1, size=size, progress=not args.quiet, **how)
    video = save_video(result.frames, args.output, fps=args.fps)
    if not args.quiet:
        for note in dict.fromkeys([*pair.notes, *result.notes, *video.notes]):
            print(f"note: {note}")
        count, _, height, width = result.frames.shape
        print(
            f"{args.output}: {count} frames of {width}x{height} pixels at {args.fps:g} fps, {result.unet_calls} U-Net "
            f"calls, {time.perf_counter() - start:.1f} s"
        )
    return 0


def _fit(args: argparse.Namespace) -> int:
    if args.output.suffix != ".safetensors":
        raise ValueError(f"{args.output} is no name for deltas: let it end in .safetensors.")
    if not args.output.parent.is_dir():
        raise FileNotFoundError(f"the folder {args.output.parent} does not exist: create it, or give another --output.")
    if args.output.is_dir() or not os.access(args.output.parent, os.W_OK):
        raise ValueError(f"{args.output} cannot be written: give another --output.")
    import torch

    from interp_lib import fit_backward_motion, load_clips, load_video_model
    from interp_lib.inbetweening.clips import check_format
    from interp_lib.models.load_video import video_format

    rank = os.environ.get("LOCAL_RANK")  # set by `accelerate launch`: one process a device
    device = f"cuda:{rank}" if rank and args.device in ("auto", "cuda") and torch.cuda.is_available() else args.device
    dtype, made_for = read_dtype(args.dtype), video_format(args.model)
    size, frames = args.size or made_for.size, args.frames or made_for.frames
    sides = (size, size) if isinstance(size, int) else size
    check_format(frames, *sides, max_frames=made_for.max_frames, multiple=made_for.multiple)
    windows = {"stride": args.stride, "windows": args.windows, "progress": not args.quiet}
    clips, notes = load_clips(args.clips, frames=frames, size=size, **windows)
    how = {name: getattr(args, name) for name in ("steps", "lr", "seed", "batch", "gradient_checkpointing")}
    how |= {"rotate": not args.no_rotation, "progress": not args.quiet}
    model = load_video_model(args.model, device=device, dtype=dtype, reverse=None)
    checkpoint = args.output.with_suffix(".checkpoint")
    try:
        motion = fit_backward_motion(model, clips, checkpoint=checkpoint, **how)
    except KeyboardInterrupt:
        if not checkpoint.exists():
            raise
        raise KeyboardInterrupt(f"the same command goes on from {checkpoint}") from None
    if os.environ.get("RANK", "0") != "0":
        return 0
    motion.save(args.output)
    if not args.quiet:
        for note in notes:
            print(f"note: {note}")
        early, late = (sum(part) / len(part) for part in (motion.losses[:50], motion.losses[-50:]))
        print(f"{args.output}: {len(clips)} clips, {args.steps} steps, loss {early:.4f} at first, {late:.4f} at last")
    return 0
