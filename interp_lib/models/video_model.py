"""One image-to-video diffusion model: keyframes to conditioning, latents to frames, and the v-prediction of SVD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from interp_lib.images import as_images
from interp_lib.models.chunks import in_chunks, sliced_feed_forward
from interp_lib.models.folder import quiet

if TYPE_CHECKING:
    from interp_lib.models.offload import CpuOffload

MAX_FRAMES = 25  # the longer of SVD's two models; both are one architecture
VAE_CHUNK = 8  # frames per VAE call; bounds the memory
LARGE = 2**30  # latent pixels of a batch, all its frames, times the square of the U-Net's first width
CLIP_SIZE = 224
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Format(NamedTuple):
    """The videos of a model. size: pixels a side it was made for, multiple: what image sides must be multiples of."""

    frames: int
    max_frames: int
    size: int
    multiple: int

    @classmethod
    def of(cls, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> Format:
        """From two configurations. The U-Net halves the latents once a level and cannot pad."""
        factor, frames = 2 ** (len(vae["block_out_channels"]) - 1), unet["num_frames"]
        multiple = factor * 2 ** (len(unet["block_out_channels"]) - 1)
        return cls(frames, max(MAX_FRAMES, frames), unet["sample_size"] * factor, multiple)


class VideoModel:
    """The networks of a Stable-Video-Diffusion-like model and what the methods ask of them.

    settings: what the model's folder recommends where an argument is None. lock: held by every method while it runs, so
    that calls of several threads queue.
    unet_calls counts the calls of `predict_v`, one batched call counted once, whole or in halves. Latents
    `[1,T,C,h,w]` are float32 outside the networks. reverse: backward-motion deltas, U-Net parameter name -> what is
    added to it, or None. frames: how many the model was made for, max_frames: how many it takes. lean: whether calls
    save memory: the branches of guidance, with and without the image, one by one, and the feed-forward layers of the
    widest grid in parts. It changes the latents by rounding alone. None decides by the work in a call: True
    above LARGE, below which half a call takes more than half the time (SVD: 7 frames of 128x128 pixels are below).
    """

    def __init__(
        self,
        *,
        unet: Any,
        vae: Any,
        image_encoder: Any,
        scheduler: Any,
        reverse: dict[str, Tensor] | None = None,
        no_rotation: dict[str, Tensor] | None = None,
        normalise: tuple[Sequence[float], Sequence[float]] = (CLIP_MEAN, CLIP_STD),
        name: str = "",
        notes: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ):
        self.settings, self.lock = dict(settings or {}), RLock()
        self.unet, self.vae, self.image_encoder, self.scheduler = unet, vae, image_encoder, scheduler
        self.reverse, self.no_rotation, self.normalise = reverse, no_rotation, normalise
        self.name, self.notes, self.unet_calls = name, list(notes), 0
        self.low_memory: bool | None = None
        self.turns: CpuOffload | None = None  # of the networks on the device, with offload=True
        self.latent_channels: int = vae.config.latent_channels
        self.vae_factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        own = Format.of(unet.config, vae.config)
        self.frames, self.max_frames, self.native_size, self.multiple = own

    @property
    def device(self) -> torch.device:
        return self.turns.device if self.turns else next(self.unet.parameters()).device  # unet.device: slow

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    def __repr__(self) -> str:
        what = "with" if self.reverse else "without"
        return f"VideoModel({self.name!r}, {self.frames} frames, {what} backward motion, {self.device}, {self.dtype})"

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames [T,3,H,W] in [0,1] -> latents [1,T,C,H/f,W/f] float32, f = `.vae_factor`: the scaled VAE mode."""
        frames = as_images(frames, name="frames")
        return (self._encode(frames * 2 - 1) * self.vae.config.scaling_factor)[None]

    @torch.no_grad()
    def decode(self, latents: Tensor, *, device: torch.device | None = None, progress: bool = False) -> Tensor:
        """Latents [1,T,C,h,w] -> frames [T,3,f*h,f*w] float32 in [0,1], in chunks of consecutive frames.

        device: where the frames are gathered; None is the model's.
        """
        scale, out = self.vae.config.scaling_factor, None
        if device is not None:
            sides = (side * self.vae_factor for side in latents.shape[3:])
            out = torch.empty(latents.shape[1], 3, *sides, device=device)

        def pictures(z: Tensor) -> Tensor:
            z = (z.to(self.device).float() / scale).to(self.vae.dtype)
            return (self.vae.decode(z, num_frames=len(z)).sample.float() / 2 + 0.5).clamp(0, 1)

        return in_chunks(pictures, latents[0], VAE_CHUNK, out=out, progress="decoding" * progress)

    @torch.no_grad()
    def condition(self, image: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """What the U-Net is told of a keyframe: (image latent [1,C,h,w], image embedding [1,1,D]), both float32.

        Source: METHODS as of SVD: noise of `strength` is added in [-1,1] before the VAE, whose mode is taken unscaled;
        the embedding sees the image without noise. image: [1,3,H,W] in [0,1]; noise: [1,3,H,W], unit variance.
        """
        pixels = image.to(self.device) * 2 - 1
        latent = self._encode(pixels + strength * noise.to(self.device))
        embedding = self.image_encoder(clip_input(pixels, *self.normalise).to(self.dtype)).image_embeds
        return latent, embedding[:, None].float()

    def predict_v(
        self, scaled: Tensor, timestep: Tensor, context: Tensor, micro: Tensor, *, branches: int = 1
    ) -> Tensor:
        """v [B,T,C,h,w] float32: one counted call of the U-Net, in so many parts as there are branches if it is lean.

        scaled: [B,T,2C,h,w], scaled noisy latents and image latents. context: [B,1,D]. micro: [B,3] as of
        `micro_conditioning`. branches: of guidance in the batch, which follow each other: 2 for without, with the
        image, without, with.
        """
        self.unet_calls += 1
        low_memory = branches > 1 and self._is_low_memory(scaled)
        step = branches if low_memory else 1
        with sliced_feed_forward(self.unet.down_blocks[0], self.unet.up_blocks[-1]) if low_memory else nullcontext():
            parts = [
                self.unet(
                    scaled[i::step].to(self.device, self.dtype),
                    timestep.to(self.device),
                    encoder_hidden_states=context[i::step].to(self.device, self.dtype),
                    added_time_ids=micro[i::step].to(self.device, self.dtype),
                ).sample.float()
                for i in range(step)
            ]
        return torch.stack(parts, 1).flatten(0, 1)

    def _is_low_memory(self, scaled: Tensor) -> bool:
        batch, frames, _, height, width = scaled.shape
        work = batch * frames * height * width * self.unet.config.block_out_channels[0] ** 2
        return work > LARGE if self.low_memory is None else self.low_memory

    def _encode(self, pixels: Tensor) -> Tensor:
        parts = (x.to(self.device, self.vae.dtype) for x in pixels.split(VAE_CHUNK))
        return torch.cat([self.vae.encode(x).latent_dist.mode().float() for x in parts])


def clip_input(pixels: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """Images [N,3,H,W] in [-1,1] -> CLIP's input [N,3,224,224], resized as diffusers' SVD pipeline does."""
    with quiet():  # it says that torchvision is absent, which nothing here needs
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

    small = (_resize_with_antialiasing(pixels.float(), (CLIP_SIZE, CLIP_SIZE)) + 1) / 2
    mean, std = (torch.tensor(x, device=small.device).view(1, 3, 1, 1) for x in (mean, std))
    return (small - mean) / std


def micro_conditioning(fps: Tensor | float, bucket: Tensor | float, noise: Tensor | float) -> Tensor:
    """SVD's three numbers [B,3] (fps - 1, motion bucket, strength of the noise on the keyframe) from numbers or [B]."""
    columns = [torch.as_tensor(x, dtype=torch.float32).cpu().reshape(-1) for x in (fps, bucket, noise)]
    fps, bucket, noise = torch.broadcast_tensors(*columns)
    return torch.stack([fps - 1, bucket, noise], 1)


def check_video_model(model: object) -> None:
    """ValueError unless it is a VideoModel (a name, say)."""
    if not isinstance(model, VideoModel):
        raise ValueError(f"model is a {type(model).__name__}: give load_video_model(...), 'embedded' or another.")
