"""DiffMorpher: one LoRA an image, both mixed, with spherically mixed noise and mixed attention inputs.

Source: Zhang et al., DiffMorpher: Unleashing the Capability of Diffusion Models for Image Morphing, 2024: LoRAs and
text embeddings interpolated, the inverted latents along an arc, the attention inputs of the up-blocks for the first
60 % of the steps, AdaIN on the clean latents. Without its reschedule of the frame times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.baselines._keyframes import ends, times, with_ends
from interp_lib.bench.baselines.latent_mix import slerp
from interp_lib.dreammover.ddim import ddim_step, run_inversion, timesteps
from interp_lib.dreammover.lora import Lora, fit_lora
from interp_lib.models.image_model import ImageModel, up_block_self_attentions
from interp_lib.types import Interpolation, Pair

MODEL = "image"
SHARE = 0.6  # of the steps, from the noisiest down, in which attention inputs are mixed


def make(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    lora_steps: int = 200,
    lr: float = 2e-4,
    prompts: tuple[str, str] | None = None,
) -> Interpolation:
    """prompts: of both images; None is the pair's caption for both. U-Net calls: 2 * steps to invert, then
    (frames + 2) * steps."""
    calls, both = model.unet_calls, ends(pair)
    words = model.embed_text(list(prompts or (pair.caption, pair.caption)))
    told = prompts or (pair.caption, pair.caption)
    loras: list[Lora] = []
    try:
        for image, prompt in zip(both.split(1), told, strict=True):
            loras.append(fit_lora(model, image, prompt=prompt, steps=lora_steps, lr=lr, seed=seed, progress=False))
        latents = morph(model, model.encode(both), words, loras, times(frames), steps)
    finally:
        for lora in loras:
            lora.remove()
    return with_ends(model, pair, latents, calls)


@torch.no_grad()
def morph(model: ImageModel, clean: Tensor, words: Tensor, loras: list[Lora], mix: Tensor, steps: int) -> Tensor:
    """Clean latents [n,C,h,w] at times `mix` [n,1,1,1] between `clean` [2,C,h,w]; words: text embeddings [2,L,D]."""
    schedule, noisy = timesteps(model, steps), []
    for k, z in enumerate(clean.split(1)):
        blend(loras, float(k))
        noisy.append(run_inversion(model, z, words[k : k + 1], schedule, steps=steps).latents[-1])
    states, shares = [*noisy, *slerp(*noisy, mix).split(1)], [0.0, 1.0, *mix.flatten().tolist()]
    down = [int(t) for t in schedule.flip(0)]
    with mixed_attention(model) as inputs:
        for i, (t, below) in enumerate(zip(down, [*down[1:], 0], strict=True)):
            for k, share in enumerate(shares):  # the two ends first: the frames between use what they saw
                blend(loras, share)
                inputs.begin(k, share, active=i < SHARE * len(down))
                context = torch.lerp(words[:1], words[1:], share)
                noise = model.predict_noise(states[k], t, context)
                states[k] = ddim_step(states[k], noise, model.alpha_bar(t), model.alpha_bar(below))
    return torch.cat([adain(z, *states[:2], share) for z, share in zip(states[2:], shares[2:], strict=True)])


def blend(loras: list[Lora], share: float) -> None:
    """The weights' offsets (1 - d) D0 + d D1."""
    for lora, strength in zip(loras, (1 - share, share), strict=True):
        lora.scale(strength)


def adain(z: Tensor, first: Tensor, last: Tensor, share: float) -> Tensor:
    """z with the mean and deviation of every channel interpolated between those of both ends."""
    mean, std = (
        torch.lerp(f(first), f(last), share)
        for f in (lambda x: x.mean((2, 3), keepdim=True), lambda x: x.std((2, 3), keepdim=True))
    )
    return (z - z.mean((2, 3), keepdim=True)) / z.std((2, 3), keepdim=True).clamp(min=1e-6) * std + mean


class _Inputs:
    """What the self-attention of both ends saw in this step, and whose turn it is."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], Tensor] = {}

    def begin(self, frame: int, share: float, *, active: bool) -> None:
        self.frame, self.share, self.active = frame, share, active

    def source(self, name: str, x: Tensor) -> Tensor:
        """Where K and V of this layer come from."""
        if self.frame < 2:
            self.seen[name, self.frame] = x
            return x
        return torch.lerp(self.seen[name, 0], self.seen[name, 1], self.share) if self.active else x


class _Attention:
    """Attention processor: queries of the frame itself, keys and values of the mixed inputs."""

    def __init__(self, inputs: _Inputs, name: str, plain: Any):
        self.inputs, self.name, self.plain = inputs, name, plain

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        source = self.inputs.source(self.name, hidden_states)
        return self.plain(attn, hidden_states, *args, **(kwargs | {"encoder_hidden_states": source}))


@contextmanager
def mixed_attention(model: ImageModel) -> Iterator[_Inputs]:
    """While it lasts, the self-attention of all up-blocks takes keys and values from what `_Inputs` says."""
    blocks = range(len(model.unet.up_blocks))
    layers = [layer for block in blocks for layer in up_block_self_attentions(model.unet, block)]
    before, inputs = [attn.processor for _, attn in layers], _Inputs()
    try:
        for (name, attn), plain in zip(layers, before, strict=True):
            attn.set_processor(_Attention(inputs, name, plain))
        yield inputs
    finally:
        for (_, attn), plain in zip(layers, before, strict=True):
            attn.set_processor(plain)
