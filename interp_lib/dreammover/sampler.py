"""From two inverted images to the latents between them: fusion at T (paper section 3.3), then the steps down.

The middle frames attend to the keys and values of the endpoints (section 3.4).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from interp_lib.checks import check_tensors
from interp_lib.dreammover.attention import EndpointControl, replace_self_attention
from interp_lib.dreammover.ddim import Inversion, add_noise, multistep, predict_clean, predict_in_batches
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.models.image_model import ImageModel, TextContext


@dataclass
class Network:
    """Predicts eps of the two endpoints in one call, and of middle frames in batches that attend to the endpoints.

    attention: whether they do; preset, blocks: in which layers, see `replace_self_attention`.
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
    """Denoise z along `levels`, pairs (t, timestep below); yield (timestep below, latents) after every step.

    before: clean latents and alpha_bar of a step already made, if there was one.
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


@dataclass
class FrameState:
    """Where the frames are: latents [n+2,C,h,w] (image 0, n middle frames, image 1) at a timestep, in the end 0.

    fused_clean: [n,C,h,w], the high level of Eq. 7, None when the fusion was direct.
    """

    timestep: int
    latents: Tensor
    fused_clean: Tensor | None


# Eq. 6-8 for the start, Eq. 2 for the steps, Eq. 9 and 10 inside the network
@torch.no_grad()
def denoise_frames(
    net: Network, inversion: Inversion, flow01: Tensor, flow10: Tensor, deltas: Tensor, *, two_level: bool = True
) -> Iterator[FrameState]:
    """Fuse the inverted pair at times `deltas` [n] and denoise; yield the start, then the state after every step.

    inversion: of both images; its own clean and noise are used by "released" only, which evaluates its first step
    twice, the second time on the fused clean latents re-noised with the first prediction; "paper" takes eps(z_T, T)
    from the first endpoints call. flow01, flow10: [1,2,h,w] in latent pixels. U-Net calls: per step one of the
    endpoints and ceil(n/batch_size) of middle frames. The replacement is off whenever a state is handed out.
    """
    model, preset = net.model, net.preset
    (t, below), *levels = inversion.levels()
    a, ends = inversion.alpha_bar, inversion.latents[-1]
    with net.replacing():
        eps_ends = net.endpoints(ends, t)
        clean, noise = inversion.clean, inversion.noise
        if preset == "paper":
            clean, noise = predict_clean(ends, eps_ends, a), eps_ends
        parts, flows = (*clean.split(1), *noise.split(1)), (flow01, flow10)
        fused, batches = None, deltas.split(net.batch_size)
        if two_level:
            both = [fuse_two_level(*parts, *flows, delta, a, preset=preset)[:2] for delta in batches]
            z, fused = (torch.cat(x) for x in zip(*both, strict=True))
        else:
            z = torch.cat([fuse_direct(*ends.split(1), *flows, delta, preset=preset) for delta in batches])
        start = between(ends, z)
        if preset == "released" and two_level:  # (otherwise an ordinary step)
            clean = between(clean, fused)
            noise = between(eps_ends, net.middle(add_noise(fused, net.middle(z, t), a), t))
        else:
            noise = between(eps_ends, net.middle(z, t))
            clean = predict_clean(start, noise, a)
    yield FrameState(t, start, fused)
    first = add_noise(clean, noise, model.alpha_bar(below))
    yield FrameState(below, first, fused)
    for t, z in descend(model, net.all, first, levels, inversion.solver, (clean, a)):
        yield FrameState(t, z, fused)


def denoise_between(
    model: ImageModel, inversion: Inversion, middle: Tensor, *, prompt: str = "", blocks: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """Denoise middle frames from a start of your own, next to the endpoints of an inversion; yield start and steps.

    Source: section 3.4, as `denoise_frames` with preset "paper". middle: z_T [n,C,h,w] of any fusion. blocks: up-blocks
    whose self-attention attends to the endpoints; None is every one, () none. Yields latents [n,C,h,w] at T and after
    every step. U-Net calls: two a step, one where blocks is ().
    """
    context, ends = model.embed_text(prompt), inversion.latents[-1]
    check_tensors(middle=middle)
    if middle.ndim != 4 or middle.shape[1:] != ends.shape[1:]:
        raise ValueError(f"middle is {list(middle.shape)}: give latents at step T, n of {list(ends.shape[1:])}.")
    middle = middle.to(ends)
    attention = blocks is None or bool(blocks)
    net = Network(model, context, len(middle), attention, blocks=blocks)
    predict, start = (net.all, between(ends, middle)) if attention else (net.middle, middle)
    yield middle
    for _, z in descend(model, predict, start, inversion.levels(), inversion.solver):
        yield z[1:-1] if attention else z
