"""The U-Net: four levels with cross-attention where Stable Diffusion 1.5 has it, trained on latents of several
sizes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from experiments.train.autoencoder import LATENT_CHANNELS
from experiments.train.loop import fit
from experiments.train.text import WIDTH, build_text_encoder, token_ids


def build_unet() -> UNet2DConditionModel:
    """SD 1.5's block types at 32x32 latents (128 px), an eighth of its width, one layer a block."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96, 128, 144),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=(3, 3, 4, 4),  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.5's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train_denoiser(
    latents: dict[int, Tensor],
    captions: list[str],
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    steps: int,
    batch: int,
    device: str,
    minutes: float | None = None,
) -> nn.ModuleDict:
    """eps-MSE at uniform timesteps; half of the prompts are empty, as DreamMover's are. Returns the EMA `unet` and
    `text_encoder`.

    latents: image size -> `[N,C,h,w]` half precision, all of the same pictures, in the order of `captions`. Of three
    steps one is at 64 px with four times the batch, one at 128 px, one on crops of 96 px, so no size is the only one
    the network knows.
    """
    torch.manual_seed(1)
    networks = nn.ModuleDict({"unet": build_unet(), "text_encoder": build_text_encoder(tokenizer)}).to(device)
    alpha_bar = build_scheduler().alphas_cumprod.to(device)
    ids = token_ids(tokenizer, captions)
    empty = token_ids(tokenizer, [""])

    def loss(networks: nn.ModuleDict, step: int, generator: torch.Generator) -> Tensor:
        size = (64, 128, 96)[step % 3]
        count = {64: 3 * batch, 128: batch, 96: int(1.7 * batch)}[size]
        picks = torch.randint(len(captions), (count,), generator=generator)
        clean = latents[64 if size == 64 else 128][picks].float()
        if size == 96:
            y, x = torch.randint(9, (2,), generator=generator).tolist()
            clean = clean[..., y : y + 24, x : x + 24]
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(1000, (count,), generator=generator).to(device)
        silent = torch.rand(count, 1, generator=generator) < 0.5
        prompts = torch.where(silent, empty, ids[picks]).to(device)
        clean, noise, level = clean.to(device), noise.to(device), alpha_bar[times].view(-1, 1, 1, 1)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        with torch.autocast(device, dtype=torch.bfloat16):
            context = networks["text_encoder"](prompts).last_hidden_state
            predicted = networks["unet"](noisy, times, context).sample
        return F.mse_loss(predicted.float(), noise)

    return fit("unet", networks, loss, steps=steps, lr=8e-4, folder=folder, warmup=300, minutes=minutes)
