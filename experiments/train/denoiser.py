"""The image U-Net: four levels with cross-attention where Stable Diffusion 1.5 has it, trained on latents."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.train.autoencoder import IMAGE_CHANNELS
from experiments.train.loop import fit
from experiments.train.text import WIDTH, build_text_encoder, token_ids

EARLY = 3000  # steps on crops alone
# Cells a side of a step's crops, in turns, and how many of them cost as much as one whole latent of 32 cells.
SIDES = {"early": (16, 24), "late": (32, 24)}
AFFORDABLE = {16: 4.0, 24: 1.7, 32: 1.0}
WORKING = 700  # most timesteps are drawn below: interpolation inverts to at most t = 581 by default


def build_unet() -> UNet2DConditionModel:
    """Build SD 1.5's block types for 32x32 latents (128 px), one layer a block.

    The upper levels have few heads, since attention over 1,024 tokens costs as much a head whatever its width.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=IMAGE_CHANNELS,
        out_channels=IMAGE_CHANNELS,
        block_out_channels=(48, 96, 160, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=(1, 2, 4, 4),  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Build Stable Diffusion 1.5's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_networks(tokenizer: CLIPTokenizer, start: Path | None = None) -> nn.ModuleDict:
    """Build `unet` and `text_encoder` with random weights, or with those of the model folder `start`."""
    torch.manual_seed(1)
    networks = nn.ModuleDict({"unet": build_unet(), "text_encoder": build_text_encoder(tokenizer)})
    if start is not None:
        networks["unet"] = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        networks["text_encoder"] = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
    return networks


def train_denoiser(
    latents: Tensor,
    captions: list[str],
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    steps: int,
    batch: int,
    device: str,
    minutes: float | None = None,
    start: Path | None = None,
) -> nn.ModuleDict:
    """Minimise the error of eps; return the averaged `unet` and `text_encoder`.

    latents: `[N,C,32,32]` half precision, in the order of `captions`. Half of the prompts are empty, as DreamMover's
    are. Three quarters of the timesteps are drawn below WORKING. batch: whole latents a step; crops come in larger
    batches of the same cost. start: a model folder to go on from; its first steps are like the last ones.
    """
    early = 0 if start else EARLY
    networks = build_networks(tokenizer, start).to(device)
    if device == "cpu":  # half as long again with torch's own attention, whose backward pass is slow on a CPU
        networks["unet"].to(memory_format=torch.channels_last).set_attn_processor(AttnProcessor())
    alpha_bar = build_scheduler().alphas_cumprod.to(device)
    ids, empty = token_ids(tokenizer, captions), token_ids(tokenizer, [""])

    def loss(networks: nn.ModuleDict, step: int, generator: torch.Generator) -> Tensor:
        sides = SIDES["early" if step < early else "late"]
        side = sides[step % len(sides)]
        count = int(AFFORDABLE[side] * batch)
        picks = torch.randint(len(captions), (count,), generator=generator)
        y, x = torch.randint(latents.shape[-1] - side + 1, (2,), generator=generator).tolist()
        clean = latents[picks, :, y : y + side, x : x + side].float().to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        bound = torch.where(torch.rand(count, generator=generator) < 0.75, WORKING, 1000)
        times = (torch.rand(count, generator=generator) * bound).long().to(device)
        silent = torch.rand(count, 1, generator=generator) < 0.5
        prompts = torch.where(silent, empty, ids[picks]).to(device)
        level = alpha_bar[times].view(-1, 1, 1, 1)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        with torch.autocast(device, dtype=torch.bfloat16):
            context = networks["text_encoder"](prompts).last_hidden_state
            predicted = networks["unet"](noisy, times, context).sample
        return F.mse_loss(predicted.float(), noise)

    return fit("unet", networks, loss, steps=steps, lr=8e-4, folder=folder, warmup=300, decay=0.9995, minutes=minutes)
