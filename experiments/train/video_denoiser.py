"""The video U-Net: Stable Video Diffusion's classes at 8x8 latents, trained together with its image encoder.

Motion must live in the temporal attention, because that is what the second paper turns: the temporal convolutions are
held at the identity (their last layer is zero and does not learn), so attention is the only way from frame to frame.

Which way an actor faces must be seen, not remembered: every clip is shown mirrored half of the time, so that its
colours and its ground say nothing, and a linear head on the first block, dropped afterwards, is asked for it on first
frames. (Later frames would not do: there the place gives the way away.)
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from diffusers.models.resnet import TemporalResnetBlock
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from experiments.train.autoencoder import VIDEO_CHANNELS as LATENT_CHANNELS
from experiments.train.loop import fit
from interp_lib.models.video_model import clip_input, micro_conditioning

WIDTH = 96
MEAN_SPEED = 0.25 / 13  # sides a frame, of the training clips of 14 frames
BUCKET, FPS = 127, 7  # SVD's defaults; here they mean MEAN_SPEED
# Of log sigma. SVD has 0.7 and 1.6; in 14 small pictures of one thing so little noise hides nothing, and which way it
# will go is only asked, and learnt, above that.
SIGMA_MEAN, SIGMA_STD = 2.3, 1.5
# The head that is asked which way the actor faces: first frames a step, weight of its loss, log sigma of their noise.
ASKED, FACING_WEIGHT, FACING_SIGMA = 96, 0.3, (3.5, 1.2)


@dataclass
class TrainingClips:
    """N clips of T frames: pixels `[N,T,3,64,64]` uint8; scaled latents `[N,T,16,8,8]` half, of the clips and of their
    mirror images; speed `[N]` in sides a frame; facing `[N]`, +1 right, -1 left, 0 unknown."""

    pixels: Tensor
    latents: Tensor
    mirrored: Tensor
    speed: Tensor
    facing: Tensor


def build_video_unet() -> UNetSpatioTemporalConditionModel:
    """SVD's four levels at a fifth to a thirteenth of its width, one layer a block, heads of 16 channels."""
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96, 96, 64),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        num_attention_heads=(4, 6, 6, 4),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=14,
    )
    for block in unet.modules():
        if isinstance(block, TemporalResnetBlock):
            block.requires_grad_(False)
            nn.init.zeros_(block.conv2.weight), nn.init.zeros_(block.conv2.bias)
    return unet


def build_image_encoder() -> CLIPVisionModelWithProjection:
    """CLIP's vision tower in two layers of width 96 on 7x7 patches of a 224 px image."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=224,
            patch_size=32,
        )
    )


def build_video_scheduler() -> EulerDiscreteScheduler:
    """Stable Video Diffusion's: EDM sigmas of Karras, v-prediction, continuous timesteps."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def motion_bucket_id(speed: Tensor, fps: Tensor) -> Tensor:
    """The bucket of a clip whose actor travels `speed` sides a frame, shown at `fps`: it grows with the speed a
    second."""
    return BUCKET * speed * fps / (MEAN_SPEED * FPS)


def train_video_denoiser(
    clips: dict[int, TrainingClips],
    vae: AutoencoderKLTemporalDecoder,
    folder: Path,
    *,
    steps: int,
    batch: int,
    device: str,
    minutes: float | None = None,
) -> nn.ModuleDict:
    """v-MSE at lognormal sigmas, 15 % of the clips without their image, and the loss of the head that is asked for the
    facing. Returns the EMA `unet` and `image_encoder`.

    clips: by the number of their frames; every eighth step is on the longer ones.
    """
    torch.manual_seed(2)
    networks = nn.ModuleDict({"unet": build_video_unet(), "image_encoder": build_image_encoder()})
    networks["facing"] = nn.Linear(networks["unet"].config.block_out_channels[0], 2)
    networks = networks.to(device)
    for block in networks.modules():
        if isinstance(block, TemporalResnetBlock):
            block.forward = lambda hidden, temb: hidden  # what it computes while its last layer is zero
    vae = vae.to(device).eval()

    def loss(networks: nn.ModuleDict, step: int, generator: torch.Generator) -> Tensor:
        length = 25 if step % 8 == 7 else 14
        asked = facing_loss(networks, clips[14], vae.config.scaling_factor, generator, device)
        count = max(1, batch * 14 // length)
        return clip_loss(networks, vae, clips[length], count, generator, device) + FACING_WEIGHT * asked

    networks = fit("video_unet", networks, loss, steps=steps, lr=8e-4, folder=folder, warmup=300, minutes=minutes)
    del networks["facing"]
    return networks


def clip_loss(
    networks: nn.ModuleDict, vae: nn.Module, clips: TrainingClips, count: int, generator: torch.Generator, device: str
) -> Tensor:
    """Error of v on `count` clips, each mirrored or not."""
    draws, length = {"generator": generator}, clips.latents.shape[1]
    picks = torch.randint(len(clips.latents), (count,), **draws)
    mirror = torch.rand(count, **draws) < 0.5
    clean = torch.where(mirror.view(-1, 1, 1, 1, 1), clips.mirrored[picks], clips.latents[picks]).float().to(device)
    pixels = clips.pixels[picks, 0]
    image = torch.where(mirror.view(-1, 1, 1, 1), pixels.flip(-1), pixels).float().to(device) / 127.5 - 1
    noise = torch.randn(clean.shape, **draws).to(device)
    sigma = (SIGMA_MEAN + SIGMA_STD * torch.randn(count, **draws)).exp().to(device)
    augmentation = (-3 + 0.5 * torch.randn(count, **draws)).exp().to(device)
    fps = torch.randint(5, 11 if length == 14 else 15, (count,), **draws)
    keep = (torch.rand(count, **draws) > 0.15).float().to(device)
    image = image + augmentation.view(-1, 1, 1, 1) * torch.randn(image.shape, **draws).to(device)
    micro = micro_conditioning(fps, motion_bucket_id(clips.speed[picks], fps), augmentation)
    with torch.autocast(device, dtype=torch.bfloat16):
        with torch.no_grad():
            first = vae.encode(image).latent_dist.mode().float()
        context = networks["image_encoder"](clip_input(image)).image_embeds[:, None] * keep.view(-1, 1, 1)
        first = (first * keep.view(-1, 1, 1, 1))[:, None].expand(-1, length, -1, -1, -1)
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = clean + level * noise
        model_input = torch.cat([noisy / (level**2 + 1).sqrt(), first], 2)
        predicted = networks["unet"](model_input, 0.25 * sigma.log(), context, micro.to(device)).sample
    target = (noisy / (level**2 + 1) - clean) * (level**2 + 1).sqrt() / level
    return F.mse_loss(predicted.float(), target)


class _Seen(Exception):
    """The rest of the U-Net is not needed."""


def facing_loss(
    networks: nn.ModuleDict, clips: TrainingClips, scale: float, generator: torch.Generator, device: str
) -> Tensor:
    """Cross-entropy of "left or right?", asked of the first block: of its largest value in every channel.

    The frame to be made is pure noise and the image embedding is left away, so that the given latent has to answer.
    """
    draws, unet, kept = {"generator": generator}, networks["unet"], []
    known = clips.facing.nonzero().flatten()
    picks = known[torch.randint(len(known), (ASKED,), **draws)]
    mirror = torch.rand(ASKED, **draws) < 0.5
    first = torch.where(mirror.view(-1, 1, 1, 1), clips.mirrored[picks, 0], clips.latents[picks, 0]).float()
    right = (clips.facing[picks] > 0) ^ mirror
    mean, std = FACING_SIGMA
    sigma = (mean + std * torch.randn(ASKED, **draws)).exp().clamp(min=5)
    noise = torch.randn(first.shape, **draws)
    first = first / scale + 0.1 * torch.randn(first.shape, **draws)
    micro = micro_conditioning(
        torch.full((ASKED,), FPS), torch.full((ASKED,), float(BUCKET)), torch.full((ASKED,), 0.05)
    )

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        kept.append(output[0])
        raise _Seen

    hook = unet.down_blocks[0].attentions[0].register_forward_hook(keep)
    level = sigma.view(-1, 1, 1, 1)
    given = torch.cat([noise * level / (level**2 + 1).sqrt(), first], 1)[:, None].to(device)
    context = torch.zeros(ASKED, 1, WIDTH, device=device)
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            unet(given, 0.25 * sigma.log().to(device), context, micro.to(device))
    except _Seen:
        pass
    finally:
        hook.remove()
    return F.cross_entropy(networks["facing"](kept[0].float().amax((2, 3))), right.long().to(device))
