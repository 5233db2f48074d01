"""DiffMorpher: one LoRA per image, both mixed, with spherically mixed noise and mixed attention inputs.

Source: Zhang et al., DiffMorpher: Unleashing the Capability of Diffusion Models for Image Morphing, 2024: LoRAs
interpolated, the inverted latents along an arc, the attention inputs of the up-blocks for the first 60 % of the steps,
AdaIN on the clean latents. One caption for both images, and without its reschedule of the frame times.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, keyframes, times
from interp_lib.bench.baselines.latents import along_arc
from interp_lib.dreammover.ddim import ddim_step, plan_levels, run_inversion
from interp_lib.dreammover.lora import Lora, fit_lora
from interp_lib.models.image_model import ImageModel, TextContext, up_block_self_attentions
from interp_lib.models.processors import swap_processors
from interp_lib.types import Interpolation, Pair

MIXED = 0.6  # share of the steps, from the noisiest down, in which attention inputs are mixed


def diffmorpher(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    lora_steps: int = 200,
    lr: float = 2e-4,
) -> Interpolation:
    """Fit a LoRA to each image, invert both, and denoise everything between them.

    U-Net calls: 2 * steps to invert, then (frames + 2) * steps.
    """
    calls, both, loras = model.unet_calls, keyframes(pair), []
    context = model.embed_text(pair.caption)
    fit = {"prompt": pair.caption, "steps": lora_steps, "lr": lr, "seed": seed, "progress": False}
    with ExitStack() as stack:
        for image in both.split(1):
            loras.append(fit_lora(model, image, **fit))
            stack.callback(loras[-1].remove)
        latents = morph(model, model.encode(both), context, loras, times(frames), steps)
    return between_keyframes(pair, model.decode(latents), latents=latents, calls=model.unet_calls - calls)


@torch.no_grad()
def morph(model: ImageModel, clean: Tensor, context: TextContext, loras: list[Lora], mix: Tensor, steps: int) -> Tensor:
    """Return clean latents [n,C,h,w] at times `mix` [n,1,1,1] between `clean` [2,C,h,w]."""
    plan, noisy = plan_levels(model, steps, steps), []
    for k, z in enumerate(clean.split(1)):
        blend(loras, float(k))
        noisy.append(run_inversion(model, z, context, plan).latents[-1])
    states, deltas = [*noisy, *along_arc(*noisy, mix).split(1)], [0.0, 1.0, *mix.flatten().tolist()]
    down, inputs = plan.down, MixedInputs()
    layers = dict(x for block in range(len(model.unet.up_blocks)) for x in up_block_self_attentions(model.unet, block))
    with swap_processors(layers, inputs.processor):
        for i, (t, below) in enumerate(zip(down, [*down[1:], 0], strict=True)):
            for k, delta in enumerate(deltas):  # the keyframes first: the frames between mix their inputs
                blend(loras, delta)
                inputs.frame, inputs.delta, inputs.active = k, delta, i < MIXED * len(down)
                noise = model.predict_noise(states[k], t, context)
                states[k] = ddim_step(states[k], noise, model.alpha_bar(t), model.alpha_bar(below))
    return torch.cat([adain(z, *states[:2], delta) for z, delta in zip(states[2:], deltas[2:], strict=True)])


def blend(loras: list[Lora], delta: float) -> None:
    """Set the offsets of the weights to (1 - d) D0 + d D1."""
    for lora, strength in zip(loras, (1 - delta, delta), strict=True):
        lora.scale(strength)


def adain(z: Tensor, first: Tensor, last: Tensor, delta: float) -> Tensor:
    """Return z with the mean and deviation of every channel interpolated between those of both keyframes."""
    mean = torch.lerp(first.mean((2, 3), keepdim=True), last.mean((2, 3), keepdim=True), delta)
    std = torch.lerp(first.std((2, 3), keepdim=True), last.std((2, 3), keepdim=True), delta)
    return (z - z.mean((2, 3), keepdim=True)) / z.std((2, 3), keepdim=True).clamp(min=1e-6) * std + mean


@dataclass
class MixedInputs:
    """The self-attention inputs of both keyframes in this step, and which frame is being denoised."""

    frame: int = 0
    delta: float = 0.0
    active: bool = False
    seen: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def processor(self, name: str, plain: Any) -> Any:
        """Return an attention processor: queries of the frame itself, keys and values of the mixed inputs."""

        def attend(attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            source = hidden_states
            if self.frame < 2:
                self.seen[name, self.frame] = hidden_states
            elif self.active:
                source = torch.lerp(self.seen[name, 0], self.seen[name, 1], self.delta)
            return plain(attn, hidden_states, *args, **(kwargs | {"encoder_hidden_states": source}))

        return attend
