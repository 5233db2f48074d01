"""Methods on the latents of an image model, nothing matched: mixed along a line or an arc, as they are or denoised."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, halvings, keyframes, times
from interp_lib.dreammover.ddim import add_noise, ddim_step, invert, plan_levels, run_inversion, timesteps
from interp_lib.dreammover.lora import Lora, fit_lora
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.models.image_model import ImageModel, TextContext, up_block_self_attentions
from interp_lib.models.processors import swap_processors
from interp_lib.types import Interpolation, Pair

COARSE, FINE = 0.6, 0.3  # DiffInterp: share of the steps at which the first, and the last, generation is mixed
MIXED = 0.6  # DiffMorpher: share of the steps, from the noisiest down, in which attention inputs are mixed


def lerp(model: ImageModel, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Mix the autoencoder's latents by time and decode them."""
    first, last = model.encode(keyframes(pair)).split(1)
    mix = times(frames).to(first)
    latents = (1 - mix) * first + mix * last
    return between_keyframes(pair, model.decode(latents), latents=latents)


def slerp(
    model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50, inversion_steps: int | None = None
) -> Interpolation:
    """Mix along an arc the latents that DDIM inversion reaches at `inversion_steps` of `steps`, and denoise them."""
    calls, prompt, both = model.unet_calls, pair.caption, keyframes(pair)
    inversion = invert(model, both, prompt=prompt, steps=steps, inversion_steps=inversion_steps, progress=False)
    start = along_arc(*inversion.latents[-1].split(1), times(frames))
    *_, latents = denoise_between(model, inversion, start, prompt=prompt, blocks=())
    return between_keyframes(pair, model.decode(latents), latents=latents, calls=model.unet_calls - calls)


@torch.no_grad()
def diffinterp(model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50) -> Interpolation:
    """DiffInterp: make the frame at t = 0.5 first, then those in the middle of two that are there.

    Source: Wang and Golland, Interpolating between Images with Diffusion Models, 2023, section 3, without its pose
    guidance and its choice among candidates by CLIP. For every frame both parents get the *same* noise, at a level that
    falls from generation to generation; their noisy latents are mixed along an arc, and DDIM denoises the mix.
    """
    calls, schedule, plan = model.unet_calls, timesteps(model, steps), halvings(frames)
    generator, context = torch.Generator().manual_seed(seed), model.embed_text(pair.caption)
    latents: dict[int, Tensor] = dict(zip((0, frames + 1), model.encode(keyframes(pair)).split(1), strict=True))
    for depth, generation in enumerate(plan):
        share = COARSE + (FINE - COARSE) * depth / max(1, len(plan) - 1)
        down = [int(t) for t in schedule[: max(1, round(share * len(schedule)))].flip(0)]
        noise = torch.randn(latents[0].shape, generator=generator).to(latents[0])
        for low, k, high in generation:
            noisy = [add_noise(latents[x], noise, model.alpha_bar(down[0])) for x in (low, high)]
            z = along_arc(*noisy, torch.tensor((k - low) / (high - low)).view(1, 1, 1, 1))
            for t, below in zip(down, [*down[1:], 0], strict=True):
                z = ddim_step(z, model.predict_noise(z, t, context), model.alpha_bar(t), model.alpha_bar(below))
            latents[k] = z
    middle = torch.cat([latents[k] for k in range(1, frames + 1)])
    return between_keyframes(pair, model.decode(middle), latents=middle, calls=model.unet_calls - calls)


def along_arc(first: Tensor, last: Tensor, mix: Tensor) -> Tensor:
    """Interpolate two tensors, seen as vectors, along an arc: sin((1-d) w)/sin(w) a + sin(d w)/sin(w) b, w their angle.

    Source: Shoemake 1985, for latents Song et al., DDIM, 2021. first, last: [1,C,h,w]; mix: [n,1,1,1] in [0,1].
    Returns [n,C,h,w]; along a line where the angle is nearly 0 or pi.
    """
    a, b = first.double(), last.double()
    cosine = (a.flatten() @ b.flatten()) / (a.norm() * b.norm()).clamp(min=1e-12)
    angle, mix = torch.arccos(cosine.clamp(-1, 1)), mix.to(a)
    if float(cosine.abs()) > 0.9995:
        return ((1 - mix) * a + mix * b).to(first)
    return ((torch.sin((1 - mix) * angle) * a + torch.sin(mix * angle) * b) / torch.sin(angle)).to(first)


def diffmorpher(
    model: ImageModel, pair: Pair, *, frames: int, seed: int, steps: int = 50, lora_steps: int = 200, lr: float = 2e-4
) -> Interpolation:
    """DiffMorpher: one LoRA per image, both mixed, with noise mixed along an arc and mixed attention inputs.

    Source: Zhang et al., DiffMorpher: Unleashing the Capability of Diffusion Models for Image Morphing, 2024; with one
    caption for both images, and without its reschedule of the frame times.
    """
    calls, both, loras, context = model.unet_calls, keyframes(pair), [], model.embed_text(pair.caption)
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
