"""The network with the endpoints' keys and values (paper section 3.4), and the steps from T down to clean latents."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from interp_lib.dreammover.attention import EndpointControl, replace_self_attention
from interp_lib.dreammover.ddim import Inversion, add_noise, multistep, predict_clean, predict_in_batches
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
            return predict_in_batches(self.model, z, t, self.context, self.batch_size)

    def all(self, z: Tensor, t: int) -> Tensor:
        """Predict eps of [image 0, middle frames, image 1]."""
        with self.replacing():
            return between(self.endpoints(z[[0, -1]], t), self.middle(z[1:-1], t))


def between(ends: Tensor, middle: Tensor) -> Tensor:
    """Put [n,...] between the two of [2,...]."""
    return torch.cat([ends[:1], middle, ends[1:]])


# Eq. 2, with the term of `multistep` for "dpmsolver++"
@torch.no_grad()
def descend(
    model: ImageModel,
    predict: Callable[[Tensor, int], Tensor],
    z: Tensor,
    levels: Sequence[tuple[int, int]],
    solver: str,
    before: tuple[Tensor, float] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Denoise z along `levels`, pairs (t, timestep below it); yield (timestep below, latents) after every step.

    predict: gives eps(z, t). before: clean latents and alpha_bar of a step already made, if there was one.
    """
    for t, below in levels:
        a, a_below = model.alpha_bar(t), model.alpha_bar(below)
        with model.lock:  # for a step, not while the caller has the latents
            noise = predict(z, t)
        clean = predict_clean(z, noise, a)
        z = add_noise(clean, noise, a_below)
        if before is not None and solver == "dpmsolver++":
            z = z + multistep(clean, before[0], a, a_below, before[1])
        before = clean, a
        yield below, z


def denoise_between(
    model: ImageModel, inversion: Inversion, middle: Tensor, *, prompt: str = "", blocks: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """Denoise middle frames from a start of your own, next to the endpoints of an inversion; yield start and steps.

    Source: section 3.4, as `denoise_frames` with preset "paper" does it. middle: z_T [n,C,h,w] of any fusion.
    blocks: up-blocks whose self-attention attends to the endpoints; None is every one, () none.
    Yields latents [n,C,h,w] at T and after every step. U-Net calls: two a step, one where blocks is ().
    """
    context, ends = model.embed_text(prompt), inversion.latents[-1]
    if not isinstance(middle, Tensor) or middle.ndim != 4 or middle.shape[1:] != ends.shape[1:]:
        found = list(middle.shape) if isinstance(middle, Tensor) else type(middle).__name__
        raise ValueError(f"middle is {found}: give latents [n,{','.join(map(str, ends.shape[1:]))}] at step T.")
    middle = middle.to(ends)
    attention = blocks is None or bool(blocks)
    net = Network(model, context, len(middle), attention, blocks=blocks)
    predict, start = (net.all, between(ends, middle)) if attention else (net.middle, middle)
    yield middle
    for _, z in descend(model, predict, start, inversion.levels(), inversion.solver):
        yield z[1:-1] if attention else z
