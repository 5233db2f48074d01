"""The video model's autoencoder: an eighth of the side, 16 channels, started from the image model's own."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor, nn

from experiments.train.data import Photographs
from experiments.train.loop import fit

LATENT_CHANNELS = 16


def build_video_autoencoder(image_vae: AutoencoderKL | None = None) -> AutoencoderKLTemporalDecoder:
    """Four levels, so latents have an eighth of the image's side: 64 px give 8x8. The decoder's temporal layers start
    as the identity, every layer that the image model's autoencoder also has starts from there."""
    vae = AutoencoderKLTemporalDecoder(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=64,
    )
    for name, value in vae.named_parameters():
        if "temporal_res_block.conv2" in name:
            nn.init.zeros_(value)
    for name, value in vae.named_parameters():
        if name.startswith("decoder.time_conv_out"):
            nn.init.zeros_(value)
    with torch.no_grad():  # the middle of the three taps passes the picture through
        vae.decoder.time_conv_out.weight[:, :, 1, 0, 0] = torch.eye(3)
        known = {} if image_vae is None else image_vae.state_dict()
        for name, value in vae.state_dict().items():
            partner = known.get(_image_name(name))
            if partner is not None and partner.shape == value.shape:
                value.copy_(partner)
    return vae


def _image_name(name: str) -> str:
    """What a layer is called in the image autoencoder, whose decoder lacks the level added here at the bottom."""
    name = name.replace(".spatial_res_block", "")
    return re.sub(r"decoder\.up_blocks\.(\d)", lambda m: f"decoder.up_blocks.{int(m[1]) - 1}", name)


def train_video_autoencoder(
    frames: Tensor,
    image_vae: AutoencoderKL,
    folder: Path,
    *,
    steps: int,
    batch: int,
    device: str,
    minutes: float | None = None,
) -> AutoencoderKLTemporalDecoder:
    """MSE plus a little L1 and KL on single frames, a fifth of them photographs; the temporal layers stay the identity.

    frames: `[N,3,64,64]` uint8. Returns the EMA weights with `scaling_factor` set to 1 / std of the latents.
    """
    torch.manual_seed(0)
    networks = nn.ModuleDict({"vae": build_video_autoencoder(image_vae)}).to(device)
    for name, value in networks.named_parameters():
        value.requires_grad_("temporal" not in name and "time_" not in name)
    photographs = Photographs()

    def loss(networks: nn.ModuleDict, step: int, generator: torch.Generator) -> Tensor:
        count = batch // 5
        picks = torch.randint(len(frames), (batch - count,), generator=generator)
        images = torch.cat([frames[picks].float() / 255, photographs.crops(count, frames.shape[-1], generator)])
        images = (images * 2 - 1).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            posterior = networks["vae"].encode(images).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
            decoded = networks["vae"].decode(posterior.mean + posterior.std * noise, num_frames=1).sample
        error = decoded.float() - images
        divergence = posterior.kl().mean() / images[0].numel()
        return error.square().mean() + 0.05 * error.abs().mean() + 1e-5 * divergence

    vae = fit("video_vae", networks, loss, steps=steps, lr=1e-3, folder=folder, minutes=minutes)["vae"]
    with torch.no_grad():
        sample = frames[:: max(1, len(frames) // 256)][:256].to(device).float() / 127.5 - 1
        std = torch.cat([vae.encode(x).latent_dist.mean for x in sample.split(16)]).std()
    vae.register_to_config(scaling_factor=round(1 / float(std), 5))
    return vae
