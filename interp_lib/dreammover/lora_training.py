"""The optimisation behind `fit_lora` (paper section 3.4 and 4.1)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from interp_lib.models.image_model import ImageModel, TextContext

MOST_STORED = 48 * 48  # latent pixels, 384 px in SD: from here on activations are recomputed in the backward pass
MOST_PLAIN = 64 * 64  # latent pixels, 512 px in SD: above it attention without a fused kernel takes too much memory
LOSS_SCALE = 2.0**12  # puts float16 gradients of SD's latents near 1, far from both ends of float16


def train_factors(
    model: ImageModel,
    factors: list[torch.nn.Parameter],
    z: Tensor,
    context: TextContext,
    steps: int,
    lr: float,
    seed: int,
    progress: bool,
) -> list[float]:
    """Minimise the squared error of the noise prediction on latents z [N,C,h,w]; return the loss of every step.

    Source: section 3.4. The LoRA factors are float32 during training and in the model's dtype afterwards. In float16 a
    step whose gradients overflow is repeated with a smaller loss scale, so none is skipped.
    """
    for p in factors:
        p.data = p.data.float()  # AdamW's small steps are lost in half precision
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(factors, lr=lr, weight_decay=1e-2)
    half = model.dtype == torch.float16
    scaler = torch.amp.GradScaler(model.device.type, init_scale=LOSS_SCALE, enabled=half)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draws on every device
    alphas, losses = model.scheduler.alphas_cumprod, []
    bar = tqdm(range(steps), desc="LoRA", disable=not progress)
    for step in bar:
        t = torch.randint(0, len(alphas), (len(z),), generator=generator)
        noise = torch.randn(z.shape, generator=generator).to(z)
        a = alphas[t].to(z)[:, None, None, None]
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * z if model.predicts_v else noise
        scale = math.inf
        while scaler.get_scale() < scale:  # once, and again after an overflow, which has lowered the scale
            scale = scaler.get_scale()
            loss = F.mse_loss(model.run_unet(noisy, t, context).float(), target)
            if not math.isfinite(loss.item()) or scale < 1:
                raise ValueError(
                    f"The LoRA's loss is not finite at step {step + 1}: fit it with a smaller lr than {lr}."
                )
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
    for p in factors:
        p.requires_grad_(False)
        p.data = p.data.to(model.dtype)
    return losses


@contextmanager
def gradients_in_order(unet: Any, latents: Tensor) -> Iterator[None]:
    """Let gradients fit into memory, by recomputing activations, and, on CUDA, sum in a fixed order.

    Fused attention and some convolutions sum in another order every time.
    """
    pixels = latents.shape[-2] * latents.shape[-1]
    plain = latents.is_cuda and pixels <= MOST_PLAIN
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.deterministic
    try:
        cudnn.deterministic = True
        if pixels >= MOST_STORED:
            unet.enable_gradient_checkpointing()
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            yield
    finally:
        cudnn.deterministic = before
        if pixels >= MOST_STORED:
            unet.disable_gradient_checkpointing()
