"""The optimisation behind `fit_lora` (paper section 3.4 and 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from interp_lib.models.image_model import ImageModel, TextContext

MOST_PLAIN = 64 * 64  # latent pixels, 512 px in SD: above it attention without a fused kernel takes too much memory


def train_factors(
    model: ImageModel,
    factors: Sequence[torch.nn.Parameter],
    z: Tensor,
    context: TextContext,
    steps: int,
    lr: float,
    weight_decay: float,
    seed: int,
    progress: bool,
) -> list[float]:
    """Minimise the squared error of the noise prediction over LoRA factors; return the loss of every step.

    Source: section 3.4. z: latents [N,C,h,w] of the images, context: of the prompt. The factors are float32 during
    training and in the model's dtype afterwards. Raises ValueError when the loss stops being finite.
    """
    for p in factors:
        p.data = p.data.float()  # AdamW's small steps are lost in half precision
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(factors, lr=lr, weight_decay=weight_decay)
    scaler = torch.amp.GradScaler(model.device.type, enabled=model.dtype == torch.float16)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draws on every device
    alphas, losses = model.scheduler.alphas_cumprod, []
    bar = tqdm(range(steps), desc="LoRA", disable=not progress)
    for step in bar:
        t = torch.randint(0, len(alphas), (len(z),), generator=generator)
        noise = torch.randn(z.shape, generator=generator).to(z)
        a = alphas[t].to(z)[:, None, None, None]
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * z if model.predicts_v else noise
        loss = F.mse_loss(model.run_unet(noisy, t, context).float(), target)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise ValueError(f"The LoRA's loss is not finite at step {step + 1}: fit it with a smaller lr than {lr}.")
        bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    for p in factors:
        p.requires_grad_(False)
        p.data = p.data.to(model.dtype)
    return losses


@contextmanager
def deterministic_gradients(latents: Tensor) -> Iterator[None]:
    """Sum gradients in a fixed order on CUDA, where fused attention and some convolutions use another every time."""
    if latents.device.type != "cuda":
        yield
        return
    plain = latents.shape[-2] * latents.shape[-1] <= MOST_PLAIN
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.deterministic
    try:
        cudnn.deterministic = True
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            yield
    finally:
        cudnn.deterministic = before


@contextmanager
def gradient_checkpoints(unet: Any, wanted: bool) -> Iterator[None]:
    """Turn gradient checkpointing on where it is wanted; leave the U-Net as it was."""
    was = unet.is_gradient_checkpointing
    try:
        if wanted:
            unet.enable_gradient_checkpointing()
        yield
    finally:
        if wanted and not was:
            unet.disable_gradient_checkpointing()
