"""Both autoencoders: AutoencoderKL for pictures of 128 px, AutoencoderKLTemporalDecoder for clips of 64 px.

Their latents must be *warpable*: decode(T z) is held to T x for random rotations, scales and shifts T, because frame
interpolation moves latents along a flow. Without that term, latents splatted along the true flow decode to a smear.
Equivariant latents are known to be easier to diffuse as well (EQ-VAE, arXiv:2502.09509).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor, nn

from experiments.train.data import Photographs
from experiments.train.loop import fit

IMAGE_CHANNELS, VIDEO_CHANNELS = 8, 16  # of the latents
CROP = 64  # pixels
NOISE = 0.05  # on latents while training, in standard deviations
WARPED = 0.65  # share of a batch that is decoded from warped latents


def build_autoencoder() -> AutoencoderKL:
    """Build three levels, so that latents have a quarter of the image's side: 128 px give 32x32.

    Without attention in the middle, so that a picture of another size is decoded in the same way.
    """
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 128),
        layers_per_block=1,
        latent_channels=IMAGE_CHANNELS,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
    )


def build_video_autoencoder() -> AutoencoderKLTemporalDecoder:
    """Build four levels, so that latents have an eighth of the side: 64 px give 8x8. The temporal layers of the decoder
    are the identity and are not trained."""
    vae = AutoencoderKLTemporalDecoder(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 128),
        layers_per_block=1,
        latent_channels=VIDEO_CHANNELS,
        sample_size=64,
    )
    for name, value in vae.named_parameters():
        temporal = "temporal" in name or "time_" in name
        value.requires_grad_(not temporal)
        if "temporal_res_block.conv2" in name or name.startswith("decoder.time_conv_out"):
            nn.init.zeros_(value)
    with torch.no_grad():  # the middle of the three taps passes the picture through
        vae.decoder.time_conv_out.weight[:, :, 1, 0, 0] = torch.eye(3)
    return vae


def random_affine(count: int, generator: torch.Generator) -> Tensor:
    """Draw `[count,2,3]`: rotations of up to 30 degrees, scales of 0.78 to 1.28, shifts of up to a quarter of the half
    side; the last (1 - WARPED) of them are the identity: whole pictures that stay."""
    angle = torch.rand(count, generator=generator) * 1.05 - 0.525
    scale = torch.exp((torch.rand(count, generator=generator) - 0.5) * 0.5)
    shift = (torch.rand(count, 2, generator=generator) - 0.5) * 0.5
    c, s = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([c, -s, shift[:, 0]], 1), torch.stack([s, c, shift[:, 1]], 1)], 1)
    theta[round(WARPED * count) :] = torch.eye(2, 3)
    return theta


def warp(x: Tensor, theta: Tensor, padding: str = "border") -> Tensor:
    """Resample `[N,C,H,W]` bilinearly in normalised coordinates, so that one theta serves latents and pixels."""
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def equivariance_loss(vae: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    """Error of decode(T encode(x)) against T x inside the picture, plus a small KL term; images in [-1,1]."""
    theta = random_affine(len(images), generator).to(images.device)
    video = isinstance(vae, AutoencoderKLTemporalDecoder)
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        posterior = vae.encode(images).latent_dist
        z = posterior.mean.float()
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        moved = warp(z, theta) + NOISE * z.detach().std() * noise
        decoded = vae.decode(moved, **({"num_frames": 1} if video else {})).sample.float()
    inside = warp(torch.ones_like(images[:, :1]), theta, padding="zeros")
    error = (decoded - warp(images, theta)) * inside
    divergence = posterior.kl().mean() / images[0].numel()
    return (error.square().sum() + 0.05 * error.abs().sum()) / (3 * inside.sum()) + 1e-5 * divergence


def train_autoencoder(
    name: str,
    vae: nn.Module,
    frames: Tensor,
    folder: Path,
    *,
    steps: int,
    batch: int,
    device: str,
    minutes: float | None = None,
) -> nn.Module:
    """Train on 64 px crops, a fifth of them photographs; return the average with `scaling_factor` = 1 / std of latents.

    frames: `[N,3,H,W]` uint8. Half of the crops are mirrored and half have their colour channels permuted, so that the
    autoencoder knows more coats than the breeds'.
    """
    photographs = Photographs()

    def crops(generator: torch.Generator) -> Tensor:
        count = batch // 5
        picks = torch.randint(len(frames), (batch - count,), generator=generator)
        corners = torch.randint(frames.shape[-1] - CROP + 1, (2, batch - count), generator=generator).tolist()
        cut = [frames[i, :, y : y + CROP, x : x + CROP] for i, y, x in zip(picks.tolist(), *corners, strict=True)]
        pictures = torch.cat([torch.stack(cut).float() / 255, photographs.crops(count, CROP, generator)])
        mirror, recolour = (torch.rand(2, batch, generator=generator) < 0.5).unbind()
        pictures = torch.where(mirror.view(-1, 1, 1, 1), pictures.flip(-1), pictures)
        order = torch.rand(batch, 3, generator=generator).argsort(1)
        order = torch.where(recolour[:, None], order, torch.arange(3))
        pictures = pictures.gather(1, order[:, :, None, None].expand_as(pictures))
        return pictures[torch.randperm(batch, generator=generator)]

    def loss(networks: nn.ModuleDict, step: int, generator: torch.Generator) -> Tensor:
        images = (crops(generator) * 2 - 1).to(device, memory_format=torch.channels_last)
        return equivariance_loss(networks["vae"], images, generator)

    networks = nn.ModuleDict({"vae": vae}).to(device, memory_format=torch.channels_last)
    vae = fit(name, networks, loss, steps=steps, lr=1e-3, folder=folder, minutes=minutes)["vae"]
    vae.register_to_config(scaling_factor=latent_scale(vae, frames, device))
    return vae.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def latent_scale(vae: nn.Module, frames: Tensor, device: str) -> float:
    """Compute 1 / std of the latents over 256 frames."""
    sample = frames[:: max(1, len(frames) // 256)][:256].to(device).float() / 127.5 - 1
    return round(1 / float(torch.cat([vae.encode(x).latent_dist.mean for x in sample.split(16)]).std()), 5)


@torch.no_grad()
def encode_frames(vae: nn.Module, frames: Tensor, *, device: str) -> Tensor:
    """Encode uint8 frames to scaled posterior means `[N,C,h,w]` in half precision."""
    latents = []
    for part in frames.split(32):
        images = (part.to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, dtype=torch.bfloat16):
            mean = vae.encode(images).latent_dist.mean
        latents.append((mean.float() * vae.config.scaling_factor).half().cpu())
    return torch.cat(latents)
