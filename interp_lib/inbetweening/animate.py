"""`animate`: image-to-video, forward or backward in time (paper sections 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp_lib.checks import check_choice, check_switch
from interp_lib.inbetweening.pipeline import fused_network, sample
from interp_lib.inbetweening.prepare import OnStep, Settings
from interp_lib.inbetweening.sampling import Keyframe, Schedule, Step, denoised, euler, guided
from interp_lib.memory import memory_advice
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image


@memory_advice("use fewer frames or a smaller size, or load the model with offload=True or in float16")
def animate(
    model: VideoModel,
    image: Tensor | Image,
    *,
    frames: int | None = None,
    reverse: bool = False,
    method: str = "dual",
    steps: int | None = None,
    guidance_scale: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_aug_strength: float = 0.02,
    fps: float = 7,
    motion_bucket_id: float = 127,
    rotate: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
) -> Interpolation:
    """Make a video that starts at the image, or with `reverse=True` one that ends there.

    Source: sections 4.1 and 4.2. In reverse, a forward video of the same image and the video backwards in time are made
    together, one U-Net call a step; the second uses the first one's maps rotated by 180 degrees, and the deltas.

    method: how the reverse video is made: "dual", "no-rotation" (all projections tuned, no maps), or "no-finetune"
        (maps alone). rotate: blocks whose maps rotate; None is by method.
    latents: unit noise [1,frames,C,h,w] of the forward video; the backward one starts from the same.
    The other arguments are those of `inbetween`. Frames come in true order of time.
    Raises ValueError for arguments that do not fit, and for reverse without deltas.
    """
    check_choice("method", method, ("dual", "no-rotation", "no-finetune"))
    check_switch("reverse", reverse)
    conditioning, method = (fps, motion_bucket_id, noise_aug_strength), method if reverse else "forward"
    settings = Settings(model, method, "paper", frames, steps, 0, guidance_scale, conditioning, 0.5, rotate, seed)
    images, names = (image,), ("image",)
    return sample(settings, images, names, size, latents, on_step, progress, denoise=denoise_side_by_side)


def denoise_side_by_side(settings: Settings, start: Tensor, keys: Sequence[Keyframe], plan: Schedule) -> Iterator[Step]:
    """Denoise the forward video alone (method "forward"), or with the backward one, each in its own Euler steps."""
    reverse = settings.method != "forward"
    videos, scale = [start, start] if reverse else [start], settings.guidance_scale.to(start)
    both_directions = fused_network(settings)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        with both_directions():
            pairs = guided(settings.model, videos, [keys[0]] * len(videos), sigma, timestep)
        clean = [
            denoised(z, without + scale * (image - without), sigma)
            for z, (without, image) in zip(videos, pairs, strict=True)
        ]
        videos = [euler(z, x, sigma, below) for z, x in zip(videos, clean, strict=True)]
        latents, prediction = (videos[1].flip(1), clean[1].flip(1)) if reverse else (videos[0], clean[0])
        yield Step(i, 0, sigma, latents, prediction, clean[0], prediction if reverse else None)
