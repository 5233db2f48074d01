"""`python -m interp_lib.train`: render, train the autoencoder, encode, train the U-Net, write the diffusers folder,
measure it.

Every stage resumes: finished ones are skipped, an interrupted one goes on from its last checkpoint. Without arguments
everything is made from scratch with the recipe of the device at hand (a GPU gets more steps and larger batches).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from .autoencoder import encode_frames, train_autoencoder
from .data import Photographs, render_frames
from .denoiser import build_scheduler, train_denoiser
from .export import write_model
from .loop import write_whole
from .text import build_tokenizer

RECIPES = {
    "cpu": {"scenes": 9984, "vae_steps": 2200, "vae_batch": 16, "unet_steps": 4200, "unet_batch": 12},
    "cuda": {"scenes": 9984, "vae_steps": 8000, "vae_batch": 32, "unet_steps": 20000, "unet_batch": 48},
}


def main(argv: list[str] | None = None) -> None:
    """Run the stages that are not finished yet."""
    parser = argparse.ArgumentParser(prog="python -m interp_lib.train", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/train"), help="checkpoints, logs and rendered frames")
    parser.add_argument("--out", type=Path, default=Path("data/models/image"), help="the diffusers folder to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--stage", default="all", choices=("all", "frames", "vae", "unet"), help="stop after this stage"
    )
    parser.add_argument("--minutes", type=float, help="stop the current training stage after this long, to be resumed")
    parser.add_argument("--no-card", action="store_true", help="skip the measurements for the model card")
    for name, value in RECIPES["cpu"].items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default {value} on a CPU")
    args = parser.parse_args(argv)
    recipe = {k: getattr(args, k) or v for k, v in RECIPES[args.device].items()}

    frames, captions = render_frames(args.work / "frames", recipe["scenes"])
    if args.stage == "frames":
        return
    vae = train_autoencoder(
        frames,
        args.work,
        steps=recipe["vae_steps"],
        batch=recipe["vae_batch"],
        device=args.device,
        minutes=args.minutes,
    )
    if args.stage == "vae":
        return
    photographs = Photographs().crops(len(frames) // 8, 128, torch.Generator().manual_seed(7))
    frames = torch.cat([frames, (photographs * 255).round().to(torch.uint8)])
    captions = captions + ["a photograph"] * len(photographs)
    latents = {size: _latents(vae, frames, size, args) for size in (64, 128)}
    tokenizer = build_tokenizer(captions)
    networks = train_denoiser(
        latents,
        captions,
        tokenizer,
        args.work,
        steps=recipe["unet_steps"],
        batch=recipe["unet_batch"],
        device=args.device,
        minutes=args.minutes,
    )
    write_model(args.out, vae=vae, tokenizer=tokenizer, scheduler=build_scheduler(), **networks)
    if not args.no_card:
        from .card import write_card

        write_card(args.out, recipe=recipe, logs=args.work)


def _latents(vae: AutoencoderKL, frames: Tensor, size: int, args: argparse.Namespace) -> Tensor:
    """`encode_frames`, kept on disk under the name of the autoencoder's scaling factor, which another training would
    change."""
    path = args.work / f"latents-{size}-{vae.config.scaling_factor}.pt"
    if not path.exists():
        latents = encode_frames(vae, frames, size=size, device=args.device)
        write_whole(path, lambda partial: torch.save(latents, partial))
    return torch.load(path, weights_only=True)


if __name__ == "__main__":
    main()
