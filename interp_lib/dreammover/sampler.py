"""From the inverted pair to the denoised frames (paper section 3.3 and 3.4), one state at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp_lib.dreammover.attention import replace_self_attention
from interp_lib.dreammover.ddim import Inversion, add_noise, ddim_step, predict_clean
from interp_lib.dreammover.fusion import check_levels, fuse_direct, fuse_two_level

if TYPE_CHECKING:
    from interp_lib.models.image_model import ImageModel


@dataclass
class FrameState:
    """Where the frames are: latents [n+2,C,h,w] (image 0, n middle frames, image 1) at a timestep.

    timestep: of the latents, the last of a run being 0. fused_clean: [n,C,h,w], the high level of Eq. 7, None when
    the fusion was direct.
    """

    timestep: int
    latents: Tensor
    fused_clean: Tensor | None


@torch.no_grad()
def denoise_frames(
    model: ImageModel,
    inversion: Inversion,
    flow01: Tensor,
    flow10: Tensor,
    deltas: Tensor,
    context: Tensor,
    *,
    preset: str = "paper",
    two_level: bool = True,
    high: str = "average",
    low: str | None = None,
    attention: bool = True,
    batch_size: int | None = None,
) -> Iterator[FrameState]:
    """Fuse the inverted pair at times `deltas` [n] and denoise; yield the start, then the state after every step.

    Source: Eq. 6-8 for the start, Eq. 2 for the steps, Eq. 9 and 10 inside the network; `released` evaluates its first
    step twice, the second time on the fused clean latents re-noised with the first prediction.
    inversion: of both images, in this order; its own clean and noise are used by "released" only. flow01, flow10:
    [1,2,h,w] in latent pixels. high, low: how `fuse_two_level` fuses its two levels; not for direct fusion.
    batch_size: middle frames per U-Net call, None for all.
    U-Net calls: per step one of the endpoints and ceil(n/batch_size) of middle frames, once more the latter in
    `released`'s first step. "paper" takes eps(z_T, T) from the first endpoints call.
    """
    check_levels(two_level, high, low)
    fusion_by = {"high": high, "low": low} if two_level else None
    down = [int(t) for t in inversion.timesteps.flip(0)]
    levels = list(zip(down, [*down[1:], 0], strict=True))
    net = _Network(model, context, batch_size or len(deltas), preset, attention)
    # The replacement is off whenever a state is handed out, so that the model can be used between two steps.
    with net.replacing():
        start, state = _first_step(net, inversion, flow01, flow10, deltas, levels[0], preset, fusion_by)
    yield start
    yield state
    for t, below in levels[1:]:
        z_ends, z, a, a_below = state.latents[[0, -1]], state.latents[1:-1], model.alpha_bar(t), model.alpha_bar(below)
        with net.replacing():
            z_ends = ddim_step(z_ends, net.ends(z_ends, t), a, a_below)
            z = ddim_step(z, net.middle(z, t), a, a_below)
        state = FrameState(below, _joined(z_ends, z), state.fused_clean)
        yield state


@torch.no_grad()
def denoise_between(
    model: ImageModel,
    inversion: Inversion,
    middle: Tensor,
    *,
    prompt: str = "",
    blocks: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """Denoise middle frames from a start of your own, beside the endpoints of an inversion; yield start and steps.

    Source: section 3.4, as `denoise_frames` with preset "paper" does it. middle: z_T [n,C,h,w] of any fusion.
    blocks: up-blocks whose self-attention looks at the endpoints; None is every one, () none.
    Yields latents [n,C,h,w], inversion_steps+1 times. U-Net calls: two a step, one where blocks is ().
    """
    context, ends = model.embed_text(prompt), inversion.latents[-1]
    if not isinstance(middle, Tensor) or middle.ndim != 4 or middle.shape[1:] != ends.shape[1:]:
        found = list(middle.shape) if isinstance(middle, Tensor) else type(middle).__name__
        raise ValueError(f"middle is {found}: give latents [n,{','.join(map(str, ends.shape[1:]))}] at step T.")
    yield middle
    for t, below in pairwise([*map(int, inversion.timesteps.flip(0)), 0]):
        levels = model.alpha_bar(t), model.alpha_bar(below)
        if blocks is not None and not blocks:
            middle = ddim_step(middle, model.predict_noise(middle, t, context), *levels)
        else:
            with replace_self_attention(model.unet, blocks=blocks) as control:
                with control.storing():
                    ends = ddim_step(ends, model.predict_noise(ends, t, context), *levels)
                with control.reusing():
                    middle = ddim_step(middle, model.predict_noise(middle, t, context), *levels)
        yield middle


def _first_step(
    net: _Network,
    inversion: Inversion,
    flow01: Tensor,
    flow10: Tensor,
    deltas: Tensor,
    level: tuple[int, int],
    preset: str,
    fusion_by: dict[str, str | None] | None,
) -> tuple[FrameState, FrameState]:
    """The fused start at T and the state one step below, from one call of the endpoints."""
    t, below = level
    a, a_below = inversion.alpha_bar, net.model.alpha_bar(below)
    z_ends = inversion.latents[-1]
    eps_ends = net.ends(z_ends, t)
    clean_ends, noise_ends = inversion.clean, inversion.noise
    if preset == "paper":
        clean_ends, noise_ends = predict_clean(z_ends, eps_ends, a), eps_ends
    z, fused = _fuse(z_ends, clean_ends, noise_ends, flow01, flow10, deltas.split(net.batch_size), a, preset, fusion_by)
    start = FrameState(t, _joined(z_ends, z), fused)
    if preset == "released" and fusion_by:  # (otherwise, ends and middle frames alike, an ordinary step)
        z = add_noise(fused, net.middle(z, t), a)
        z = add_noise(fused, net.middle(z, t), a_below)
        z_ends = add_noise(clean_ends, eps_ends, a_below)
    else:
        z = ddim_step(z, net.middle(z, t), a, a_below)
        z_ends = ddim_step(z_ends, eps_ends, a, a_below)
    return start, FrameState(below, _joined(z_ends, z), fused)


class _Network:
    """eps of the two endpoints in one call, and of middle frames in chunks that see the endpoints' K and V."""

    def __init__(self, model: ImageModel, context: Tensor, batch_size: int, preset: str, attention: bool):
        self.model, self.context, self.batch_size = model, context, batch_size
        self.preset, self.attention, self.control = preset, attention, None

    @contextmanager
    def replacing(self) -> Iterator[None]:
        if not self.attention:
            yield
            return
        with replace_self_attention(self.model.unet, preset=self.preset) as self.control:
            yield

    def ends(self, z: Tensor, t: int) -> Tensor:
        with self.control.storing() if self.attention else nullcontext():
            return self.model.predict_noise(z, t, self.context)

    def middle(self, z: Tensor, t: int) -> Tensor:
        with self.control.reusing() if self.attention else nullcontext():
            return torch.cat([self.model.predict_noise(part, t, self.context) for part in z.split(self.batch_size)])


def _joined(ends: Tensor, middle: Tensor) -> Tensor:
    return torch.cat([ends[:1], middle, ends[1:]])


def _fuse(
    z: Tensor,
    clean: Tensor,
    noise: Tensor,
    flow01: Tensor,
    flow10: Tensor,
    times: tuple[Tensor, ...],
    alpha_bar: float,
    preset: str,
    fusion_by: dict[str, str | None] | None,
) -> tuple[Tensor, Tensor | None]:
    """(z_T of the middle frames, their fused clean latents or None); fusion_by: None for direct fusion"""
    if fusion_by is None:
        return torch.cat([fuse_direct(z[:1], z[1:], flow01, flow10, d, preset=preset) for d in times]), None
    pair = (clean[:1], clean[1:], noise[:1], noise[1:], flow01, flow10)
    fused = [fuse_two_level(*pair, d, alpha_bar, preset=preset, **fusion_by)[:2] for d in times]
    latents, high = zip(*fused, strict=True)
    return torch.cat(latents), torch.cat(high)
