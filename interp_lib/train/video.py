"""The video model from start to end: clips, autoencoder, U-Net, the folder, and the backward-motion fine-tunes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPImageProcessor

from interp_lib.inbetweening.backward import fit_backward_motion
from interp_lib.models import load_image_model, load_video_model
from interp_lib.models.load_video import NO_ROTATION, REVERSE
from interp_lib.train.autoencoder import encode_frames
from interp_lib.train.clips import facings, render_clips
from interp_lib.train.data import world_hash
from interp_lib.train.export import VIDEO, write_model
from interp_lib.train.loop import save
from interp_lib.train.video_autoencoder import train_video_autoencoder
from interp_lib.train.video_denoiser import (
    SIGMA_MEAN,
    SIGMA_STD,
    TrainingClips,
    build_video_scheduler,
    motion_bucket_id,
    train_video_denoiser,
)

REVERSE_CLIPS = 512  # the last clips of 14 frames teach the backward motion
FPS = 7
REVERSE_LR = 1e-3  # a network of a tenth of SVD's width takes larger steps than its 1e-4


def make_video_model(
    work: Path, image_model: Path, out: Path, recipe: dict[str, int], *, device: str, minutes: float | None
) -> None:
    """Every stage that is not finished, from the recipe's `clips`, `vae_steps` and so on; each resumes."""
    clips = {14: render_clips(work / "clips", recipe["clips"], 14)}
    clips[25] = render_clips(work / "clips", -(-recipe["clips"] // 384) * 64, 25)
    frames = torch.cat([pixels.flatten(0, 1) for pixels, _ in clips.values()])
    how = {"device": device, "minutes": minutes}
    start = load_image_model(image_model, device="cpu").vae
    vae = train_video_autoencoder(
        frames, start, work, steps=recipe["video_vae_steps"], batch=recipe["video_vae_batch"], **how
    )
    data = {}
    for length, (pixels, speed) in clips.items():
        latents, mirrored = (_latents(vae, pixels, work, device, mirror=mirror) for mirror in (False, True))
        data[length] = TrainingClips(pixels, latents, mirrored, speed, facings(len(pixels), length))
    networks = train_video_denoiser(
        data, vae, work, steps=recipe["video_unet_steps"], batch=recipe["video_unet_batch"], **how
    )
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
    """`[N,T,16,8,8]` half precision, kept under a name that changes with the world, the autoencoder and the clips."""
    count, length = pixels.shape[:2]
    name = f"video-latents-{world_hash()}-{vae.config.scaling_factor}-{count}-{length}"
    path = work / f"{name}{'-mirrored' if mirror else ''}.pt"
    if not path.exists():
        frames = pixels.flatten(0, 1).flip(-1) if mirror else pixels.flatten(0, 1)
        latents = encode_frames(vae, frames, size=pixels.shape[-1], device=device)
        save(latents.unflatten(0, (-1, length)), path)
    return torch.load(path, weights_only=True)
