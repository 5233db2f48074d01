"""`animate`: image-to-video, forward or backward in time (paper sections 4.1 and 4.2), and clips made by it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from interp_lib.checks import check_choice, check_switch
from interp_lib.images import as_images
from interp_lib.inbetweening.pipeline import ADVICE, fused_network, sample
from interp_lib.inbetweening.prepare import Settings
from interp_lib.inbetweening.sampling import Keyframe, Schedule, Step, denoised, euler, guided
from interp_lib.memory import memory_advice
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation


@memory_advice(ADVICE)
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
    on_step: Callable[[Step], None] | None = None,
    progress: bool = True,
) -> Interpolation:
    """Make a video that starts at the image, or with `reverse=True` one that ends there.

    Source: sections 4.1 and 4.2. In reverse, a forward video of the same image and the video backwards in time are made
    together from the same noise, one U-Net call a step; the second uses the first one's maps rotated by 180 degrees,
    and the deltas. method: how it is made: "dual", "no-rotation" (all projections tuned, no maps), or "no-finetune"
    (maps alone). The other arguments are those of `inbetween`. Frames come in true order of time.
    Raises ValueError for arguments that do not fit, and for reverse without deltas.
    """
    check_choice("method", method, ("dual", "no-rotation", "no-finetune"))
    check_switch("reverse", reverse)
    conditioning, method = (fps, motion_bucket_id, noise_aug_strength), method if reverse else "forward"
    settings = Settings(model, method, "paper", frames, steps, 0, guidance_scale, conditioning, 0.5, rotate, seed)
    denoise = denoise_side_by_side if reverse else None
    return sample(settings, [image], ["image"], size, latents, on_step, progress, denoise=denoise)


def denoise_side_by_side(settings: Settings, z: Tensor, keys: Sequence[Keyframe], plan: Schedule) -> Iterator[Step]:
    """Denoise a forward and a backward video of one keyframe, each in its own Euler steps; yield the backward one."""
    (key,), scale, back = keys, settings.guidance_scale.to(z), z
    both_directions = fused_network(settings)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        with both_directions():
            pairs = guided(settings.model, [z, back], [key, key], sigma, timestep)
        v, v_back = (without + scale * (image - without) for without, image in pairs)
        forward, backward = denoised(z, v, sigma), denoised(back, v_back, sigma)
        z, back = euler(z, forward, sigma, below), euler(back, backward, sigma, below)
        yield Step(i, 0, sigma, back.flip(1), backward.flip(1), forward, backward.flip(1))


def draw_clips(
    model: VideoModel,
    images: Tensor,
    *,
    frames: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Tensor:
    """Make training clips [K,N,3,H,W] from K images [K,3,H,W] with the model itself, as the paper does (section 5).

    Image k is animated with seed + k; frames and steps are those of `animate`.
    """
    options = {"frames": frames, "steps": steps, "progress": progress}
    images = as_images(images, name="images")
    return torch.stack([animate(model, image, seed=seed + k, **options).frames for k, image in enumerate(images)])
