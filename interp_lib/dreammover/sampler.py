"""The network with the endpoints' keys and values (paper section 3.4), and middle frames denoised with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from interp_lib.dreammover.attention import EndpointControl, replace_self_attention
from interp_lib.dreammover.ddim import Inversion, ddim_step
from interp_lib.models.image_model import ImageModel, TextContext


@dataclass
class Network:
    """Predicts eps of the two endpoints in one call, and of middle frames in batches that attend to the endpoints.

    context: text embedding. attention: whether they do; preset, blocks: in which layers, see `replace_self_attention`.
    """

    model: ImageModel
    context: TextContext
    batch_size: int
    attention: bool = True
    preset: str = "paper"
    blocks: Sequence[int] | None = None
    control: EndpointControl | None = None

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Replace the self-attention within the block; `endpoints` and `middle` need it."""
        if not self.attention:
            yield
            return
        with replace_self_attention(self.model.unet, blocks=self.blocks, preset=self.preset) as self.control:
            yield

    def endpoints(self, z: Tensor, t: int) -> Tensor:
        with self.control.storing() if self.attention else nullcontext():
            return self.model.predict_noise(z, t, self.context)

    def middle(self, z: Tensor, t: int) -> Tensor:
        with self.control.reusing() if self.attention else nullcontext():
            return torch.cat([self.model.predict_noise(part, t, self.context) for part in z.split(self.batch_size)])

    def step(self, ends: Tensor | None, z: Tensor, t: int, below: int) -> tuple[Tensor | None, Tensor]:
        """Take one DDIM step from t to `below` of the endpoints (None: left out) and of the middle frames."""
        levels = self.model.alpha_bar(t), self.model.alpha_bar(below)
        with self.replacing():
            ends = None if ends is None else ddim_step(ends, self.endpoints(ends, t), *levels)
            return ends, ddim_step(z, self.middle(z, t), *levels)


@torch.no_grad()
def denoise_between(
    model: ImageModel, inversion: Inversion, middle: Tensor, *, prompt: str = "", blocks: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """Denoise middle frames from a start of your own, next to the endpoints of an inversion; yield start and steps.

    Source: section 3.4, as `denoise_frames` with preset "paper" does it. middle: z_T [n,C,h,w] of any fusion.
    blocks: up-blocks whose self-attention attends to the endpoints; None is every one, () none.
    Yields latents [n,C,h,w], inversion_steps+1 times. U-Net calls: two a step, one where blocks is ().
    """
    context, ends = model.embed_text(prompt), inversion.latents[-1]
    if not isinstance(middle, Tensor) or middle.ndim != 4 or middle.shape[1:] != ends.shape[1:]:
        found = list(middle.shape) if isinstance(middle, Tensor) else type(middle).__name__
        raise ValueError(f"middle is {found}: give latents [n,{','.join(map(str, ends.shape[1:]))}] at step T.")
    middle = middle.to(ends)
    attention = blocks is None or bool(blocks)
    net = Network(model, context, len(middle), attention, blocks=blocks)
    yield middle
    for t, below in pairwise([*inversion.timesteps.flip(0).tolist(), 0]):
        with model.lock:  # for a step, not while the caller has the latents
            ends, middle = net.step(ends if attention else None, middle, t, below)
        yield middle
