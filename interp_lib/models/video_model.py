"""One image-to-video diffusion model: keyframes to conditioning, latents to frames, and the v-prediction of SVD."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from interp_lib.images import as_images
from interp_lib.models.base import Model
from interp_lib.models.folder import quiet
from interp_lib.models.processors import sliced_feed_forward
from interp_lib.progress import track

MAX_FRAMES = 25  # the longer of SVD's two models; both are one architecture
VAE_CHUNK = 8  # frames per call of the encoder, which sees each frame by itself; bounds the memory
# At its widest the decoder holds four tensors (counted) of its second stage's channels at the size of the image, and
# the kernels need some room of their own
DECODER_TENSORS = 4 * 1.25
LARGE = 2**30  # latent pixels of a batch, all its frames, times the square of the U-Net's first width
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Format(NamedTuple):
    """The videos that a model makes. size: pixels a side it was made for; multiple: image sides are multiples of it."""

    frames: int
    max_frames: int
    size: int
    multiple: int

    @classmethod
    def of(cls, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> "Format":
        """Derive it from two configurations. The U-Net halves the latents once a level and cannot pad."""
        factor, frames = 2 ** (len(vae["block_out_channels"]) - 1), unet["num_frames"]
        multiple = factor * 2 ** (len(unet["block_out_channels"]) - 1)
        return cls(frames, max(MAX_FRAMES, frames), unet["sample_size"] * factor, multiple)


@dataclass(kw_only=True, eq=False, repr=False)
class VideoModel(Model):
    """Stable Video Diffusion, or a model like it; latents are [1,T,C,h,w].

    reverse, no_rotation: backward-motion deltas, U-Net parameter name -> what is added to it, or None. normalise: mean
    and standard deviation of the vision tower's input. low_memory: run the branches of guidance, with and without the
    image, one by one, and the feed-forward layers of the widest grid in parts, which changes rounding alone. None
    decides by the work in a call: True above LARGE, below which half a call takes more than half the time (SVD: 7
    frames of 128x128 pixels are below).
    """

    image_encoder: Any
    reverse: dict[str, Tensor] | None = None
    no_rotation: dict[str, Tensor] | None = None
    normalise: tuple[Sequence[float], Sequence[float]] = (CLIP_MEAN, CLIP_STD)
    low_memory: bool | None = field(default=None, init=False)

    def __post_init__(self):
        super().__post_init__()
        self.frames, self.max_frames, self.native_size, self.multiple = Format.of(self.unet.config, self.vae.config)

    def __repr__(self) -> str:
        what = "with" if self.reverse else "without"
        return f"VideoModel({self.name!r}, {self.frames} frames, {what} backward motion, {self.device}, {self.dtype})"

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames [T,3,H,W] in [0,1] to latents [1,T,C,H/f,W/f] float32, f = `.vae_factor`: the scaled mode."""
        frames = as_images(frames, name="frames")
        return (self.encode_pixels(frames * 2 - 1, VAE_CHUNK) * self.vae.config.scaling_factor)[None]

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        *,
        device: torch.device | None = None,
        whole: bool = False,
        notes: list[str] | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Decode latents [1,T,C,h,w] to frames [T,3,f*h,f*w] float32 in [0,1].

        The decoder has temporal layers, so a video cut into chunks is another video: it is decoded in one call where
        that fits into memory (an estimate, and a second try after running out of it) or `whole` is set, else in
        overlapping chunks that are blended, and noted in `notes`. device: where the frames are gathered.
        """
        count = latents.shape[1]
        height, width = (side * self.vae_factor for side in latents.shape[3:])
        widest = DECODER_TENSORS * self.vae.config.block_out_channels[:2][-1] * height * width
        fitting = free_memory(self.device) // (widest * next(self.vae.parameters()).element_size())
        chunk = count if whole else min(count, max(2, int(fitting)))
        while True:
            try:
                frames = self._decode_chunks(latents[0], chunk, device or self.device, progress)
                break
            except torch.OutOfMemoryError:
                if whole or chunk <= 2:
                    raise
                chunk //= 2
        if chunk < count and notes is not None:
            notes.append(f"decoded {chunk} frames at a time, overlapping and blended: all {count} do not fit in memory")
        return frames

    def _decode_chunks(self, z: Tensor, chunk: int, device: torch.device, progress: bool) -> Tensor:
        """Decode z [T,C,h,w]. Neighbouring chunks share a quarter of their frames, where one fades into the other."""
        count, overlap, scale = len(z), max(1, chunk // 4) if chunk < len(z) else 0, self.vae.config.scaling_factor
        frames = torch.empty(count, 3, *(side * self.vae_factor for side in z.shape[2:]), device=device)
        starts = range(0, count - overlap, chunk - overlap)
        for start in track(starts, "decoding", len(starts), shown=progress):
            part = (z[start : start + chunk].to(self.device).float() / scale).to(self.vae.dtype)
            part = (self.vae.decode(part, num_frames=len(part)).sample.float() / 2 + 0.5).clamp(0, 1).to(device)
            if start and overlap:
                ramp = torch.linspace(0, 1, overlap + 2, device=device)[1:-1].view(-1, 1, 1, 1)
                part[:overlap] = frames[start : start + overlap].lerp(part[:overlap], ramp)
            frames[start : start + len(part)] = part
        return frames

    @torch.no_grad()
    def condition(self, image: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """Encode a keyframe for the U-Net: (image latent [1,C,h,w], image embedding [1,1,D]), both float32.

        Source: METHODS as of SVD: noise of `strength` is added in [-1,1] before the VAE, whose mode is taken unscaled;
        the embedding sees the image without noise. image: [1,3,H,W] in [0,1]; noise: [1,3,H,W], unit variance.
        """
        pixels = image.to(self.device) * 2 - 1
        latent = self.encode_pixels(pixels + strength * noise.to(self.device), VAE_CHUNK)
        embedding = self.image_encoder(clip_input(pixels, *self.normalise).to(self.dtype)).image_embeds
        return latent, embedding[:, None].float()

    def predict_v(
        self, scaled: Tensor, timestep: Tensor, context: Tensor, micro: Tensor, *, branches: int = 1
    ) -> Tensor:
        """Predict v [B,T,C,h,w] float32: one counted call of the U-Net, or one a branch to save memory.

        scaled: [B,T,2C,h,w], scaled noisy latents and image latents. context: [B,1,D]. micro: [B,3] as of
        `micro_conditioning`. branches: of guidance in the batch: 2 for without, with the image, without, with.
        """
        self.unet_calls += 1
        batch, frames, _, height, width = scaled.shape
        work = batch * frames * height * width * self.unet.config.block_out_channels[0] ** 2
        low_memory = branches > 1 and (work > LARGE if self.low_memory is None else self.low_memory)
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


def free_memory(device: torch.device) -> int:
    """Estimate the bytes that a call may use: what is free on a CUDA device, half of all memory elsewhere."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def clip_input(pixels: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """Convert images [N,3,H,W] in [-1,1] to CLIP's input [N,3,224,224], resized as diffusers' SVD pipeline does."""
    with quiet():  # it says that torchvision is absent, which nothing here needs
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

    small = (_resize_with_antialiasing(pixels.float(), (224, 224)) + 1) / 2
    mean, std = (torch.tensor(x, device=small.device).view(1, 3, 1, 1) for x in (mean, std))
    return (small - mean) / std


def micro_conditioning(fps: Tensor | float, bucket: Tensor | float, noise: Tensor | float) -> Tensor:
    """Stack SVD's three numbers [B,3] (fps - 1, motion bucket, noise on the keyframe) from numbers or tensors [B]."""
    columns = [torch.as_tensor(x, dtype=torch.float32).cpu().reshape(-1) for x in (fps, bucket, noise)]
    fps, bucket, noise = torch.broadcast_tensors(*columns)
    return torch.stack([fps - 1, bucket, noise], 1)


def check_video_model(model: object) -> None:
    """Raise ValueError unless it is a VideoModel (a name, say)."""
    if not isinstance(model, VideoModel):
        raise ValueError(f"model is a {type(model).__name__}: give load_video_model(...), 'embedded' or another.")
