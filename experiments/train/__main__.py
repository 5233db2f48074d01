"""Train the embedded models: render, train autoencoder and U-Net, write the diffusers folder, measure.

First the image model, then the video model. Every stage resumes exactly: finished ones are skipped, an interrupted one
goes on from its last state. Without arguments everything is trained from scratch with the recipe of the device at hand;
`--start FOLDER` takes the autoencoder of an image model as it is and trains its U-Net on.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from experiments.train.autoencoder import build_autoencoder, encode_frames, train_autoencoder
from experiments.train.data import SIZE, Photographs, render_frames
from experiments.train.denoiser import build_networks, build_scheduler, train_denoiser
from experiments.train.export import IMAGE, write_model
from experiments.train.loop import Unfinished, load_average, save
from experiments.train.text import build_tokenizer

RECIPES = {
    "cpu": {"scenes": 12800, "vae_steps": 14000, "vae_batch": 10, "unet_steps": 30000, "unet_batch": 12},
    "cuda": {"scenes": 51200, "vae_steps": 30000, "vae_batch": 32, "unet_steps": 60000, "unet_batch": 48},
}
VIDEO_RECIPES = {
    "cpu": {"clips": 9024, "video_vae_steps": 14000, "video_vae_batch": 12, "video_unet_steps": 20000}
    | {"video_unet_batch": 16, "reverse_steps": 400, "reverse_batch": 8},
    "cuda": {"clips": 24000, "video_vae_steps": 30000, "video_vae_batch": 40, "video_unet_steps": 40000}
    | {"video_unet_batch": 64, "reverse_steps": 2000, "reverse_batch": 16},
}
STAGES = ("frames", "vae", "unet", "card")


def main(argv: list[str] | None = None) -> int:
    """Run the stages that are not finished yet; the exit code is 2 for a wrong input."""
    args = make_parser().parse_args(argv)
    try:
        if args.model != "video":
            train_image_model(args)
        if args.model != "image":
            train_video_model(args)
    except Unfinished as pause:
        print(pause)
    except KeyboardInterrupt:
        print("interrupted; finished stages and states are kept, run it again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def train_image_model(args: argparse.Namespace) -> None:
    """Run the image model's stages up to `args.stage`."""
    recipe, last = _recipe(args, RECIPES), STAGES.index(args.stage)
    run = {"device": args.device, "minutes": args.minutes}
    frames, captions = render_frames(args.work / "frames", recipe["scenes"])
    if last < 1:
        return
    if args.start:
        vae = AutoencoderKL.from_pretrained(args.start / "vae", torch_dtype=torch.float32)
    else:
        torch.manual_seed(0)
        steps, batch = recipe["vae_steps"], recipe["vae_batch"]
        vae = train_autoencoder("vae", build_autoencoder(), frames, args.work, steps=steps, batch=batch, **run)
    if last < 2:
        return
    latents, captions = _image_latents(vae, frames, captions, args)
    tokenizer = build_tokenizer(captions)
    steps, batch = recipe["unet_steps"], recipe["unet_batch"]
    run |= {"steps": steps, "batch": batch, "start": args.start}
    networks = train_denoiser(latents, captions, tokenizer, args.work, **run)
    parts = {"vae": vae, "tokenizer": tokenizer, "scheduler": build_scheduler(), **networks}
    write_model(args.out / "image", IMAGE, **parts)
    if last >= 3:
        from experiments.train.card import IMAGE_CARD, write_card
        from experiments.train.quality import measure_image
        from interp_lib.models import load_image_model

        model = load_image_model(args.out / "image", device=args.device)
        write_card(args.out, IMAGE_CARD, measure_image(model), recipe=recipe, logs=args.work)


def export_average(work: Path, out: Path, start: Path | None = None) -> int:
    """Write the image model as it is now, from the states of a training that goes on; return the U-Net's steps."""
    saved = json.loads((work / "latents.json").read_text())
    if start is None:
        vae = nn.ModuleDict({"vae": build_autoencoder()})
        load_average("vae", vae, work)
        vae["vae"].register_to_config(scaling_factor=saved["scaling_factor"])
    else:
        vae = {"vae": AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32)}
    tokenizer = build_tokenizer(saved["captions"])
    networks = build_networks(tokenizer)
    step = load_average("unet", networks, work)
    write_model(out, IMAGE, vae=vae["vae"], tokenizer=tokenizer, scheduler=build_scheduler(), **networks)
    return step


def _image_latents(
    vae: nn.Module, frames: Tensor, captions: list[str], args: argparse.Namespace
) -> tuple[Tensor, list[str]]:
    """Encode frames, their mirror images and photographs, a tenth of the whole; kept until the autoencoder changes."""
    swapped = {"left": "right", "right": "left"}
    mirrored = [
        " ".join(swapped.get(w.strip(","), w.strip(",")) + "," * w.endswith(",") for w in c.split()) for c in captions
    ]
    count = len(frames) * 2 // 9
    captions = captions + mirrored + ["a photograph"] * count
    path = args.work / f"latents-{vae.config.scaling_factor}-{len(frames)}.pt"
    if not path.exists():
        photographs = Photographs().crops(count, SIZE, torch.Generator().manual_seed(7))
        pictures = (frames, frames.flip(-1), (photographs * 255).round().to(torch.uint8))
        save(torch.cat([encode_frames(vae, part, device=args.device) for part in pictures]), path)
        about = {"scaling_factor": vae.config.scaling_factor, "captions": captions}
        (args.work / "latents.json").write_text(json.dumps(about))
    return torch.load(path, weights_only=True), captions


def train_video_model(args: argparse.Namespace) -> None:
    """Run the video model's stages up to `args.stage`."""
    from experiments.train.video import make_video_model

    recipe = _recipe(args, VIDEO_RECIPES)
    make_video_model(args.work, args.out / "video", recipe, args.stage, device=args.device, minutes=args.minutes)
    if args.stage == "card":
        from experiments.train.card import VIDEO_CARD, write_card
        from experiments.train.video_quality import measure_video

        write_card(args.out, VIDEO_CARD, measure_video(args.out / "video"), recipe=recipe, logs=args.work)


def _recipe(args: argparse.Namespace, recipes: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: getattr(args, name) or value for name, value in recipes[args.device].items()}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/train"), help="states, logs and rendered frames")
    parser.add_argument("--out", type=Path, default=Path("data/models"), help="where the folders image, video are put")
    own = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--start", type=Path, help="folder of an image model whose U-Net is trained on")
    parser.add_argument("--device", default=own, choices=("cpu", "cuda"), help="what to train on")
    parser.add_argument("--model", default="both", choices=("image", "video", "both"), help="which model")
    parser.add_argument("--stage", default="card", choices=STAGES, help="the last stage to run")
    parser.add_argument("--minutes", type=float, help="stop a training stage after this long, to be resumed")
    for recipes in (RECIPES, VIDEO_RECIPES):
        for name, value in recipes["cpu"].items():
            shown = f"default {value} on a CPU, {recipes['cuda'][name]} on a GPU"
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=shown)
    return parser


if __name__ == "__main__":
    sys.exit(main())
