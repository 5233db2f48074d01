"""The video model from start to end: clips, autoencoder, U-Net, the folder, and the backward-motion fine-tunes."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPImageProcessor

from experiments.train.autoencoder import build_video_autoencoder, encode_frames, train_autoencoder
from experiments.train.clips import facings, render_clips
from experiments.train.data import WORLD
from experiments.train.export import VIDEO, write_model
from experiments.train.loop import save
from experiments.train.video_denoiser import (
    SIGMA_MEAN,
    SIGMA_STD,
    TrainingClips,
    build_video_scheduler,
    motion_bucket_id,
    train_video_denoiser,
)
from interp_lib.inbetweening.backward import fit_backward_motion
from interp_lib.models import load_video_model
from interp_lib.models.load import NO_ROTATION, REVERSE

REVERSE_CLIPS = 512  # the last clips of 14 frames teach the backward motion
FPS = 7
REVERSE_LR = 1e-3  # a network of a tenth of SVD's width takes larger steps than its 1e-4


def make_video_model(
    work: Path, out: Path, recipe: dict[str, int], stage: str, *, device: str, minutes: float | None
) -> None:
    """Run every stage up to `stage` that is not finished, with the recipe's numbers; each resumes."""
    clips = {14: render_clips(work / "clips", recipe["clips"], 14)}
    clips[25] = render_clips(work / "clips", -(-recipe["clips"] // 384) * 64, 25)
    if stage == "frames":
        return
    frames = torch.cat([pixels.flatten(0, 1) for pixels, _ in clips.values()])
    run = {"device": device, "minutes": minutes}
    torch.manual_seed(0)
    steps, batch = recipe["video_vae_steps"], recipe["video_vae_batch"]
    vae = train_autoencoder("video_vae", build_video_autoencoder(), frames, work, steps=steps, batch=batch, **run)
    if stage == "vae":
        return
    data = {}
    for length, (pixels, speed) in clips.items():
        latents, mirrored = (_latents(vae, pixels, work, device, mirror=mirror) for mirror in (False, True))
        data[length] = TrainingClips(pixels, latents, mirrored, speed, facings(len(pixels), length))
    steps, batch = recipe["video_unet_steps"], recipe["video_unet_batch"]
    networks = train_video_denoiser(data, vae, work, steps=steps, batch=batch, **run)
    tune = {"steps": recipe["reverse_steps"], "batch": recipe["reverse_batch"], "device": device}
    write_model(
        out,
        VIDEO,
        finish=lambda folder: fit_deltas(folder, *clips[14], work, **tune),
        vae=vae,
        scheduler=build_video_scheduler(),
        feature_extractor=CLIPImageProcessor(),
        **networks,
    )


def fit_deltas(folder: Path, pixels: Tensor, speed: Tensor, work: Path, *, steps: int, batch: int, device: str) -> None:
    """Fit backward motion with and without rotation on clips of the training set; write both files beside the parts."""
    model = load_video_model(folder, device=device, dtype=torch.float32, reverse=None)
    chosen = pixels[-REVERSE_CLIPS:].float() / 255
    buckets = motion_bucket_id(speed[-REVERSE_CLIPS:], torch.tensor(FPS)).tolist()
    for name, rotate in ((REVERSE, True), (NO_ROTATION, False)):
        with torch.autocast(device, dtype=torch.bfloat16):
            motion = fit_backward_motion(
                model,
                chosen,
                steps=steps,
                lr=REVERSE_LR,
                rotate=rotate,
                batch=batch,
                fps=FPS,
                motion_bucket_id=buckets,
                log_sigma=(SIGMA_MEAN, SIGMA_STD),
                checkpoint=work / f"{Path(name).stem}.pt",
            )
        motion.save(folder / name, dtype=torch.float16)


def _latents(vae: torch.nn.Module, pixels: Tensor, work: Path, device: str, *, mirror: bool) -> Tensor:
    """Encode to `[N,T,16,8,8]` half precision; kept on disk until world, autoencoder or number of clips change."""
    count, length = pixels.shape[:2]
    name = f"video-latents-world-{WORLD}-{vae.config.scaling_factor}-{count}-{length}"
    path = work / f"{name}{'-mirrored' if mirror else ''}.pt"
    if not path.exists():
        frames = pixels.flatten(0, 1).flip(-1) if mirror else pixels.flatten(0, 1)
        latents = encode_frames(vae, frames, device=device)
        save(latents.unflatten(0, (-1, length)), path)
    return torch.load(path, weights_only=True)
