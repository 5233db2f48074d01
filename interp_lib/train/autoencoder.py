"""The autoencoder: AutoencoderKL at a quarter of the side, trained on crops of world frames and photographs."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from interp_lib.train.data import Photographs
from interp_lib.train.loop import fit

LATENT_CHANNELS = 6


def build_autoencoder() -> AutoencoderKL:
    """Three levels, so latents have a quarter of the image's side: 128 px give 32x32."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=128,
    )


def train_autoencoder(
    frames: Tensor, folder: Path, *, steps: int, batch: int, device: str, minutes: float | None = None
) -> AutoencoderKL:
    """MSE plus a little L1 and KL, on 64 px crops; returns the EMA weights with `scaling_factor` set to 1 / std of the
    latents."""
    torch.manual_seed(0)
    networks = nn.ModuleDict({"vae": build_autoencoder()}).to(device)
    photographs = Photographs()

    def crops(generator: torch.Generator, size: int) -> Tensor:
        count = batch // 4
        picks = torch.randint(len(frames), (batch - count,), generator=generator)
        corners = torch.randint(frames.shape[-1] - size + 1, (2, batch - count), generator=generator).tolist()
        cut = [frames[i, :, y : y + size, x : x + size] for i, y, x in zip(picks.tolist(), *corners, strict=True)]
        return torch.cat([torch.stack(cut).float() / 255, photographs.crops(count, size, generator)])

    def loss(networks: nn.ModuleDict, step: int, generator: torch.Generator) -> Tensor:
        images = (crops(generator, 64) * 2 - 1).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            posterior = networks["vae"].encode(images).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
            decoded = networks["vae"].decode(posterior.mean + posterior.std * noise).sample
        error = decoded.float() - images
        divergence = posterior.kl().mean() / images[0].numel()
        return error.square().mean() + 0.05 * error.abs().mean() + 1e-5 * divergence

    vae = fit("vae", networks, loss, steps=steps, lr=1e-3, folder=folder, minutes=minutes)["vae"]
    with torch.no_grad():
        sample = frames[:: max(1, len(frames) // 256)][:256].to(device).float() / 127.5 - 1
        std = torch.cat([vae.encode(x).latent_dist.mean for x in sample.split(16)]).std()
    vae.register_to_config(scaling_factor=round(1 / float(std), 5))
    return vae


@torch.no_grad()
def encode_frames(vae: AutoencoderKL, frames: Tensor, *, size: int, device: str) -> Tensor:
    """Scaled posterior means `[N,6,size/4,size/4]` in half precision of uint8 frames brought to `size` px."""
    latents = []
    for part in frames.split(32):
        images = part.to(device).float() / 127.5 - 1
        if size != images.shape[-1]:
            images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        with torch.autocast(device, dtype=torch.bfloat16):
            mean = vae.encode(images).latent_dist.mean
        latents.append((mean.float() * vae.config.scaling_factor).half().cpu())
    return torch.cat(latents)
