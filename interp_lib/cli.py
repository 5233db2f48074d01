"""The command line: two images in, a video out. Nothing heavy is imported before the arguments are known to be good."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from interp_lib import cli_pairs, cli_video
from interp_lib.cli_help import Parser, add_dtype

VIDEO_SUFFIXES = (".mp4", ".gif", ".webp")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for a wrong input (one sentence on stderr), 130 for Ctrl-C."""
    args = None
    try:
        args = make_parser().parse_args(argv)
        return args.run(args)
    except SystemExit as stop:  # argparse: --help or an error it has already printed
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        print(f"interp_lib: interrupted, {str(stop) or 'no file was written'}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        return _fail("the device ran out of memory: try --batch-size 1 or a smaller --size.")


def _is_out_of_memory(error: Exception) -> bool:
    """By name and words, so that torch need not be imported: on the CPU it raises a plain RuntimeError."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _fail(sentence: str) -> int:
    print(f"interp_lib: error: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m interp_lib",
        description="Frames between two images, by a diffusion model. Each command has a --help of its own.",
        examples={
            "interpolate motorcycle -o out.gif --inversion-steps 14": "a bundled pair, the embedded model",
            "inbetween first.png last.png -o out.mp4": "the video model",
        },
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    cli_pairs.add_pairs(commands)
    command = commands.add_parser(
        "interpolate",
        help="make the frames between two images",
        description="Make the frames between two images (DreamMover) and save them, with both images, as a video.",
        examples={
            "cat0.jpg cat1.jpg -o cat.mp4 --frames 15 --inversion-steps 14": "your images; 14 suits the embedded model",
            "motorcycle -o out.gif --size 96x64 --no-lora": "a quick try",
            "cat -o cat.mp4 --model stable-diffusion-v1-5/stable-diffusion-v1-5 --batch-size 4": "real weights",
        },
    )
    command.set_defaults(run=_run_interpolate)
    command.add_argument(
        "input", nargs="+", help="two image files, or one folder, or one bundled pair (the command `pairs` lists them)"
    )
    command.add_argument("-o", "--output", required=True, type=Path, help=f"video to write: {' '.join(VIDEO_SUFFIXES)}")
    command.add_argument("--frames", type=_count(1), default=7, metavar="N", help="frames between the two images")
    command.add_argument("--fps", type=_rate, default=8.0, help="frames per second of the video")
    _add_model_options(command.add_argument_group("model"))
    _add_method_options(command.add_argument_group("method"))
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bars, print only errors")
    types = SimpleNamespace(count=_count, rate=_rate, size=_size, check_output=_check_output)
    cli_pairs.add_suitability(commands, types, _add_image_model)
    cli_video.add_commands(commands, types)
    cli_video.add_fit(commands, types)
    cli_pairs.add_completion(commands, parser)
    return parser


def _add_image_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", default="embedded", help='"embedded", a diffusers folder, or a hub name')
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add_dtype(group)
    group.add_argument(
        "--size",
        type=_size,
        metavar="N|WxH",
        help="size of the frames in pixels, a square or width x height; the images are resized to cover it with their "
        "aspect kept and cropped at the centre (by default about the model's own area, in the images' aspect)",
    )
    group.add_argument("--prompt", default="", help="what both images show, in words (default: none)")


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    _add_image_model(group)
    group.add_argument("--seed", type=_count(0), default=0, metavar="N", help="same seed, same frames")
    group.add_argument(
        "--batch-size", type=_count(1), metavar="N", help="frames computed at once; fewer take less memory"
    )


def _add_method_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", choices=("paper", "released"), default="paper", help="settings of paper or code")
    group.add_argument("--steps", type=_count(2), default=50, metavar="N", help="steps of the full noise schedule")
    group.add_argument(
        "--inversion-steps", type=_count(1), default=30, metavar="N", help="steps of it that are inverted"
    )
    group.add_argument(
        "--flow", choices=("diffusion", "classical", "zero"), default="diffusion", help="what moves the latents"
    )
    group.add_argument(
        "--endpoints", choices=("input", "reconstructed"), default="input", help="what is first and last"
    )
    group.add_argument("--no-lora", action="store_true", help="do not fit a LoRA on the pair")
    group.add_argument("--no-attention", action="store_true", help="no self-attention replacement")
    group.add_argument("--no-two-level", action="store_true", help="fuse the noisy latents directly")


def _count(least: int):
    def parse(text: str) -> int:
        if not text.strip().lstrip("+-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate between 0.01 and 100")
    return value


def _size(text: str) -> tuple[int, int]:
    """(h, w) from "256" or "320x192" (width x height)."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if not match or min(size := (int(match[2] or match[1]), int(match[1]))) < 8:
        raise argparse.ArgumentTypeError(f"{text!r} is not N or WIDTHxHEIGHT with sides of at least 8 pixels")
    return size


def _check_output(path: Path) -> None:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"{path} is no video name: let it end in {', '.join(VIDEO_SUFFIXES)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it, or give another --output.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: give another --output.")


def _run_interpolate(args: argparse.Namespace) -> int:
    _check_output(args.output)
    if args.inversion_steps > args.steps:
        raise ValueError(
            f"--inversion-steps {args.inversion_steps} is more than --steps {args.steps}: "
            "invert at most the whole schedule."
        )
    pair = cli_pairs.read_pair(args)

    # The images are known to be good: now the slow part.
    from interp_lib import interpolate, save_video, suitability

    start = time.perf_counter()
    model = cli_pairs.load_model(args)
    images, fitted = cli_pairs.fit_pair(pair, model, args)
    if not args.quiet and args.flow == "diffusion":
        cli_pairs.warn(suitability(model, images[:1], images[1:], steps=args.steps, prompt=args.prompt))
    result = interpolate(
        model,
        images[:1],
        images[1:],
        frames=args.frames,
        preset=args.preset,
        two_level=not args.no_two_level,
        attention=not args.no_attention,
        lora=not args.no_lora,
        flow=args.flow,
        steps=args.steps,
        inversion_steps=args.inversion_steps,
        batch_size=args.batch_size,
        seed=args.seed,
        endpoints=args.endpoints,
        prompt=args.prompt,
        progress=not args.quiet,
    )
    video = save_video(result.frames, args.output, fps=args.fps)
    if not args.quiet:
        prompt = [f'prompt: "{args.prompt}"'] if args.prompt else []
        notes = [*pair.notes, *fitted, *result.notes, *video.notes, *prompt]
        _report(args, result, list(dict.fromkeys(notes)), time.perf_counter() - start)
    return 0


def _report(args: argparse.Namespace, result, notes: list[str], seconds: float) -> None:
    for note in notes:
        print(f"note: {note}")
    count, _, height, width = result.frames.shape
    print(
        f"{args.output}: {count} frames ({args.frames} between) of {width}x{height} pixels at {args.fps:g} fps, "
        f"{result.unet_calls} U-Net calls, {seconds:.1f} s"
    )
