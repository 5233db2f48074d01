"""`python -m experiments.train`: render, train the autoencoder, encode, train the U-Net, write the diffusers folder,
measure it; first the image model, then the video model, which starts from its autoencoder.

Every stage resumes: finished ones are skipped, an interrupted one goes on from its last checkpoint. Without arguments
everything is made from scratch with the recipe of the device at hand (a GPU gets more steps and larger batches).
"""

from __future__ import annotations

if __name__ == "__main__":
    from interp_lib.interrupt import expect_interrupt

    expect_interrupt("experiments.train: interrupted; finished stages and states are kept, run it again to go on")

import argparse
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from interp_lib.cli_help import Parser
from experiments.train.autoencoder import encode_frames, train_autoencoder
from experiments.train.data import SIZE, Photographs, render_frames, world_hash
from experiments.train.denoiser import build_scheduler, train_denoiser
from experiments.train.export import IMAGE, write_model
from experiments.train.loop import Unfinished, save
from experiments.train.text import build_tokenizer

RECIPES = {
    "cpu": {"scenes": 9984, "vae_steps": 2200, "vae_batch": 16, "unet_steps": 3600, "unet_batch": 12},
    "cuda": {"scenes": 9984, "vae_steps": 8000, "vae_batch": 32, "unet_steps": 20000, "unet_batch": 48},
}
VIDEO_RECIPES = {
    "cpu": {"clips": 9024, "video_vae_steps": 2000, "video_vae_batch": 20, "video_unet_steps": 5000}
    | {"video_unet_batch": 16, "reverse_steps": 400, "reverse_batch": 8},
    "cuda": {"clips": 12032, "video_vae_steps": 10000, "video_vae_batch": 40, "video_unet_steps": 15000}
    | {"video_unet_batch": 64, "reverse_steps": 2000, "reverse_batch": 16},
}


STAGES = ("frames", "vae", "unet", "card")


def main(argv: list[str] | None = None) -> int:
    """Run the stages that are not finished yet; the exit code is 2 for a wrong input."""
    args = make_parser().parse_args(argv)
    try:
        if args.model != "video":
            _image(args)
        if args.model != "image" and args.stage in STAGES[2:]:
            _video(args)
    except Unfinished as pause:
        print(pause)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _image(args: argparse.Namespace) -> None:
    recipe, last = _recipe(args, RECIPES), STAGES.index(args.stage)
    frames, captions = render_frames(args.work / "frames", recipe["scenes"])
    if last >= 1:
        how = {"device": args.device, "minutes": args.minutes}
        vae = train_autoencoder(frames, args.work, steps=recipe["vae_steps"], batch=recipe["vae_batch"], **how)
    if last >= 2:
        _make_model(args, recipe, vae, frames, captions)
    if last >= 3:
        from interp_lib.models import load_image_model
        from experiments.train.card import IMAGE_CARD, write_card
        from experiments.train.quality import measure_flow, measure_rest

        model = load_image_model(args.out / "image", device=args.device)
        write_card(args.out, IMAGE_CARD, measure_rest(model) | measure_flow(model), recipe=recipe, logs=args.work)


def _video(args: argparse.Namespace) -> None:
    from experiments.train.video import make_video_model

    recipe = _recipe(args, VIDEO_RECIPES)
    how = {"device": args.device, "minutes": args.minutes}
    make_video_model(args.work, args.out / "image", args.out / "video", recipe, **how)
    if args.stage == "card":
        from experiments.train.card import VIDEO_CARD, write_card
        from experiments.train.video_quality import measure_video

        write_card(args.out, VIDEO_CARD, measure_video(args.out / "video"), recipe=recipe, logs=args.work)


def _recipe(args: argparse.Namespace, recipes: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: getattr(args, name) or value for name, value in recipes[args.device].items()}


def make_parser() -> Parser:
    examples = {
        "": "everything, with the recipe of the device at hand",
        "--model image --stage vae --minutes 30": "half an hour of the autoencoder, to be gone on with",
        "--work build/trial --out build/trial --scenes 96 --vae-steps 20 --unet-steps 20 --model image": "a dry run",
    }
    parser = Parser(prog="python -m experiments.train", description=__doc__, examples=examples)
    parser.add_argument("--work", type=Path, default=Path("build/train"), help="checkpoints, logs and rendered frames")
    parser.add_argument("--out", type=Path, default=Path("data/models"), help="where the folders image, video are put")
    own = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=own, choices=("cpu", "cuda"), help="what is trained on")
    parser.add_argument("--model", default="both", choices=("image", "video", "both"), help="which model")
    parser.add_argument(
        "--stage", default="card", choices=STAGES, help="the last stage to run (the card needs scikit-image and peft)"
    )
    parser.add_argument("--minutes", type=float, help="stop a training stage after this long, to be resumed")
    for recipes in (RECIPES, VIDEO_RECIPES):
        for name, value in recipes["cpu"].items():
            shown = f"default {value} on a CPU, {recipes['cuda'][name]} on a GPU"
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=shown)
    return parser


def _make_model(
    args: argparse.Namespace, recipe: dict[str, int], vae: AutoencoderKL, frames: Tensor, captions: list[str]
) -> None:
    """Encode the pictures, train U-Net and text encoder on them, write the folder."""
    photographs = Photographs().crops(len(frames) // 8, SIZE, torch.Generator().manual_seed(7))
    frames = torch.cat([frames, (photographs * 255).round().to(torch.uint8)])
    captions = captions + ["a photograph"] * len(photographs)
    tokenizer = build_tokenizer(captions)
    networks = train_denoiser(
        {size: _latents(vae, frames, size, args) for size in (SIZE // 2, SIZE)},
        captions,
        tokenizer,
        args.work,
        steps=recipe["unet_steps"],
        batch=recipe["unet_batch"],
        device=args.device,
        minutes=args.minutes,
    )
    write_model(args.out / "image", IMAGE, vae=vae, tokenizer=tokenizer, scheduler=build_scheduler(), **networks)


def _latents(vae: AutoencoderKL, frames: Tensor, size: int, args: argparse.Namespace) -> Tensor:
    """`encode_frames`, kept under a name that changes with the world, the autoencoder and the number of frames."""
    path = args.work / f"latents-{world_hash()}-{vae.config.scaling_factor}-{len(frames)}-{size}.pt"
    if not path.exists():
        save(encode_frames(vae, frames, size=size, device=args.device), path)
    return torch.load(path, weights_only=True)


if __name__ == "__main__":
    sys.exit(main())
