"""The pieces of SVD's sampler: its noise schedule, the v-prediction under guidance, and one Euler step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp_lib.models.video_model import VideoModel


@dataclass(frozen=True)
class Keyframe:
    """What the U-Net is conditioned on: image latent [1,C,h,w], embedding [1,1,D], and micro-conditioning [1,3]."""

    latent: Tensor
    context: Tensor
    micro: Tensor


@dataclass
class Step:
    """The state after one U-Net step.

    index: which sigma, from 0. repeat: 0, then 1, 2, ... where a step is repeated. sigma: the noise level before it.
    latents: [1,N,C,h,w] after it. denoised: the fused prediction of the clean latents. forward, backward: that of each
    direction, both in forward time, or None where there is none.
    """

    index: int
    repeat: int
    sigma: float
    latents: Tensor
    denoised: Tensor
    forward: Tensor | None = None
    backward: Tensor | None = None


@dataclass(frozen=True)
class Schedule:
    """sigmas [steps+1], the last one 0; timesteps [steps] = log(sigma) / 4; start: std of the first latents."""

    sigmas: Tensor
    timesteps: Tensor
    start: float


def schedule(model: VideoModel, steps: int) -> Schedule:
    """Compute the Karras sigmas that the model's folder configures; its own scheduler object is not touched."""
    scheduler = type(model.scheduler).from_config(model.scheduler.config)
    scheduler.set_timesteps(steps)
    # sigmas stay on the CPU, where a step reads them as numbers; the timesteps are copied to the device here, once
    timesteps = scheduler.timesteps.float().to(model.device)
    return Schedule(scheduler.sigmas.float(), timesteps, float(scheduler.init_noise_sigma))


def guided(
    model: VideoModel, latents: list[Tensor], keys: list[Keyframe], sigma: float, timestep: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Predict [(v without the image, v with it)] of each direction, [1,N,C,h,w] each, in one U-Net call.

    The batch is (without, with) of the first direction, then of the second; without: zeros for embedding and latent.
    """
    inputs, contexts = [], []
    for z, key in zip(latents, keys, strict=True):
        scaled = z / (sigma**2 + 1) ** 0.5
        image = key.latent[:, None].expand(-1, z.shape[1], -1, -1, -1)
        inputs += [torch.cat([scaled, torch.zeros_like(image)], 2), torch.cat([scaled, image], 2)]
        contexts += [torch.zeros_like(key.context), key.context]
    micro = torch.cat([key.micro for key in keys for _ in range(2)])
    v = model.predict_v(torch.cat(inputs), timestep, torch.cat(contexts), micro, branches=2).split(1)
    return list(zip(v[::2], v[1::2], strict=True))


def ramps(guidance_scale: tuple[float, float], frames: int, *, constant: bool) -> Tensor:
    """Compute the guidance scale of each frame [1,N,1,1,1], which rises away from the keyframe.

    constant: average the ramp with its flip, as the released code does.
    """
    ramp = torch.linspace(*guidance_scale, frames)
    return ((ramp + ramp.flip(0)) / 2 if constant else ramp).view(1, -1, 1, 1, 1)


def forward_weights(fuse: str | float | Tensor, frames: int) -> Tensor:
    """Return the weight of the forward direction in each frame [1,N,1,1,1]: 1/2, or from 1 to 0, or as given.

    Raises ValueError for another name, a shape that does not fit, and weights outside 0 to 1.
    """
    named = {"average": 0.5, "linear": torch.linspace(1, 0, frames)}
    try:
        values = torch.as_tensor(named[fuse] if isinstance(fuse, str) else fuse, dtype=torch.float32).expand(frames)
        fits = bool(((values >= 0) & (values <= 1)).all())
    except (KeyError, TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        rule = "give 'average', 'linear', or the forward direction's weight between 0 and 1, a number or [frames]"
        raise ValueError(f"fuse does not fit {frames} frames: {rule}.")
    return values.view(1, -1, 1, 1, 1)


def denoised(x: Tensor, v: Tensor, sigma: Tensor | float) -> Tensor:
    """Compute the clean latents that a v-prediction stands for: x / (s^2 + 1) - v s / sqrt(s^2 + 1)."""
    return x / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5


def v_target(clean: Tensor, noisy: Tensor, sigma: Tensor | float) -> Tensor:
    """Compute the v whose `denoised` is `clean`; its plain error is the x0 error weighted by (1+s^2)/s^2 (Alg. 1)."""
    return (noisy / (sigma**2 + 1) - clean) * (sigma**2 + 1) ** 0.5 / sigma


def euler(x: Tensor, clean: Tensor, sigma: float, below: float) -> Tensor:
    """Take one Euler step from noise level sigma down to `below`, along (x - clean) / sigma."""
    return x + (x - clean) / sigma * (below - sigma)


def renoise(x: Tensor, sigma: float, below: float, generator: torch.Generator) -> Tensor:
    """Raise latents from noise level `below` back to sigma: the variances differ by s_i^2 - s_{i+1}^2."""
    return x + (sigma**2 - below**2) ** 0.5 * noise_like(x, generator)


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw unit noise of x's shape on the generator's own device, so that a seed means the same everywhere."""
    pinned = x.is_cuda and generator.device.type == "cpu"  # from pinned memory the copy does not stop the GPU
    noise = torch.randn(x.shape, generator=generator, device=generator.device, pin_memory=pinned)
    return noise.to(x, non_blocking=pinned)


def unet_calls(method: str, steps: int, recurrence: int) -> int:
    """Count the U-Net calls of a run: two directions are one call; ViBiD makes two calls a step, without recurrence."""
    if method.startswith("vibid"):
        return 2 * steps
    return steps + (0 if method == "forward" else recurrence * int(steps / 2))
