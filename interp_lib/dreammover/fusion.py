"""Latent space fusion (DreamMover, Sec. 3.3): two images' latents, warped to a time between, become one latent.

Shapes: latents [N,C,h,w], flows [N,2,h,w] in latent pixels, metrics [N,1,h,w]. delta is one time in [0,1], or n of
them (a list or a float64 tensor) for one pair; n latents come back, the same bits as one at a time.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lib.checks import check_choice, check_number, check_tensors
from interp_lib.dreammover.ddim import PRESETS
from interp_lib.dreammover.flow import at_least_float32, backwarp, brightness_metric, check_flow
from interp_lib.dreammover.splat import landing, splat_with_coverage

Times = float | Sequence[float] | Tensor
Metric = Tensor | None
# Above the rounding of a landing point: weights this close are equal, this small are none. MPS has no float64.
WEIGHT_TIE = {torch.float64: 1e-9, torch.float32: 1e-4}


# Eq. 6
def fuse_direct(
    z0: Tensor, z1: Tensor, flow01: Tensor, flow10: Tensor, delta: Times, *, preset: str = "paper"
) -> Tensor:
    """Fuse z_T directly: the time-weighted mean of the splatted noisy latents (which blurs, see Sec. 3.3).

    Source: DreamMover, Eq. 6. z0, z1: z_T of the two images, [1,C,h,w]; M is theirs too. delta: one time or n.
    Returns [n,C,h,w]. Raises ValueError for an unknown preset, a time outside [0, 1], shapes that do not fit.
    """
    return time_weighted_fusion(z0, z1, flow01, flow10, delta, *fusion_metrics(z0, z1, flow01, flow10, preset=preset))


# Eq. 7 and Eq. 8
def fuse_two_level(
    clean0: Tensor,
    clean1: Tensor,
    noise0: Tensor,
    noise1: Tensor,
    flow01: Tensor,
    flow10: Tensor,
    delta: Times,
    alpha_bar: float | Tensor,
    *,
    preset: str = "paper",
    high: str = "average",
    low: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse on two levels: (latent, clean, noise) with latent = sqrt(ab) clean + sqrt(1-ab) noise.

    Source: DreamMover, Eq. 7 (clean) and Eq. 8 (latent). clean0, clean1: z_{T->0}; noise0, noise1: eps, [1,C,h,w];
    alpha_bar: the cumulative alpha at T, in (0, 1); delta: one time or n. Returns three [n,C,h,w].
    high: "average" (Eq. 7) or "wta". low: "wta" (Eq. 8, `paper`'s), "average", or "switch" (`released`'s: the latent
    is the hard-switched z_T and noise what Eq. 8 then leaves); None = the preset's. M is the clean latents' always.
    Raises ValueError for an unknown choice, a number out of range, shapes that do not fit.
    """
    fusions = {"average": time_weighted_fusion, "wta": winner_takes_all}
    check_choice("preset", preset, PRESETS)
    check_choice("high", high, tuple(fusions))
    low = {"paper": "wta", "released": "switch"}[preset] if low is None else low
    check_choice("low", low, (*fusions, "switch"))
    check_tensors(clean0=clean0, clean1=clean1, noise0=noise0, noise1=noise1)
    alpha_bar = check_number("alpha_bar", alpha_bar)
    shapes = [tuple(x.shape) for x in (clean0, clean1, noise0, noise1)]
    if len(set(shapes)) > 1:
        raise ValueError(f"clean0, clean1, noise0, noise1 have shapes {shapes}: all four must be [N,C,h,w] alike.")
    if not 0 < alpha_bar < 1:
        raise ValueError(f"alpha_bar={alpha_bar} must lie within (0, 1): the cumulative alpha at step T.")
    signal, spread = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    motion = (flow01, flow10, delta)
    metrics = fusion_metrics(clean0, clean1, flow01, flow10, preset=preset)
    clean = fusions[high](clean0, clean1, *motion, *metrics)
    if low == "switch":
        latent = hard_switch(signal * clean0 + spread * noise0, signal * clean1 + spread * noise1, *motion)
        return latent, clean, (latent - signal * clean) / spread
    noise = fusions[low](noise0, noise1, *motion, *metrics)
    return signal * clean + spread * noise, clean, noise


# Eq. 4, for both images
def fusion_metrics(
    a0: Tensor, a1: Tensor, flow01: Tensor, flow10: Tensor, *, preset: str = "paper"
) -> tuple[Tensor, Tensor]:
    """Return the splatting importance (M0, M1) of two images' latents; `released` counts a channel of ones along."""
    check_choice("preset", preset, PRESETS)
    ones = preset == "released"
    return brightness_metric(a0, a1, flow01, ones_channel=ones), brightness_metric(a1, a0, flow10, ones_channel=ones)


# Eq. 6 and Eq. 7
def time_weighted_fusion(
    z0: Tensor, z1: Tensor, flow01: Tensor, flow10: Tensor, delta: Times, metric0: Metric = None, metric1: Metric = None
) -> Tensor:
    """Average (1-d) splat(z0, d F01) + d splat(z1, (1-d) F10), with what each image alone covers and the holes filled.

    Source: DreamMover, Eq. 6 and 7; the filling (coverages m0, m1) as its released code has it. Where one image lands
    it is that one, where none does the mean of the unwarped latents. Differentiable in latents, flows and metrics.
    """
    d = _times(delta, len(z0)).to(flow01.device, at_least_float32(flow01).dtype)
    batch = max(len(d), len(z0))
    z0, z1, metric0, metric1 = (x if x is None else x.expand(batch, -1, -1, -1) for x in (z0, z1, metric0, metric1))
    s0, m0 = splat_with_coverage(z0, (d * flow01).expand(batch, -1, -1, -1), metric0)
    s1, m1 = splat_with_coverage(z1, ((1 - d) * flow10).expand(batch, -1, -1, -1), metric1)
    m = m0 * m1
    seen = m * ((1 - d) * s0 + d * s1) + (m0 - m).clamp(min=0) * s0 + (m1 - m).clamp(min=0) * s1
    fused = seen + (1 - (m0 + m1).clamp(max=1)) * ((1 - d) * z0 + d * z1)
    return fused.to(z0.dtype)


# Sec. 3.3, before Eq. 8
def winner_takes_all(
    z0: Tensor, z1: Tensor, flow01: Tensor, flow10: Tensor, delta: Times, metric0: Metric = None, metric1: Metric = None
) -> Tensor:
    """Take eps^d: at every target pixel, unmixed, the noise (z0 or z1) of the contribution that weighs most.

    Source: DreamMover, Sec. 3.3, before Eq. 8. Holes take the unwarped noise of the image nearer in time (image 0 at
    d = 1/2). Every output pixel is a copy of one input pixel, so unit variance stays; differentiable in the noise.
    """
    check_flow(flow01, z0)
    winner = winning_source(flow01, flow10, delta, metric0, metric1).flatten(1)
    pixels, later = winner.shape[1], (_times(delta).reshape(-1, 1) > 0.5).to(winner.device)
    winner = torch.where(winner < 0, torch.arange(pixels, device=winner.device) + pixels * later, winner)
    both = torch.cat([z0.flatten(2), z1.flatten(2)], dim=2).expand(len(winner), -1, -1)
    return both.gather(2, winner[:, None].expand(-1, both.shape[1], -1)).unflatten(2, z0.shape[2:])


@torch.no_grad()
def winning_source(
    flow01: Tensor, flow10: Tensor, delta: Times, metric0: Metric = None, metric1: Metric = None
) -> Tensor:
    """Find for every target pixel the one source pixel whose contribution weighs most.

    Source: DreamMover, Sec. 3.3 ("Winner-Takes-All"); the weight w * exp(M) * (1-d or d) is ours.
    Returns int64 [N,h,w]: 0..h*w-1 is a pixel of image 0 (row by row), h*w..2*h*w-1 one of image 1, -1 a hole. Equal
    weights (within 1e-9) go to image 0, then to the lowest pixel; a bilinear weight under 1e-9 counts for nothing.
    """
    check_flow(flow01, flow01)
    check_flow(flow10, flow01)
    exact = torch.float32 if flow01.device.type == "mps" else torch.float64  # ties should be ties, not rounding
    d = _times(delta, len(flow01)).to(flow01.device, exact)
    pixels = flow01[0, 0].numel()
    contributions = []
    for flow, time, share, metric in ((flow01, d, 1 - d, metric0), (flow10, 1 - d, d, metric1)):
        index, weight = landing(time * flow.to(exact))  # [n, 4, hw]
        importance = share[..., 0] if metric is None else share[..., 0] * metric.to(exact).flatten(2).exp()
        contributions.append((index, weight, weight * importance))
    index, weight, score = (torch.cat(x, dim=2) for x in zip(*contributions, strict=True))  # image 0, then image 1
    # Sources are numbered in floats (exact up to 2^24 pixels), because MPS reduces no int64.
    source = torch.arange(2 * pixels, device=index.device, dtype=exact).expand_as(index)
    index, weight, score, source = (x.flatten(1) for x in (index, weight, score, source))
    best = score.new_zeros(len(index), pixels + 1).scatter_reduce(1, index, score, "amax")
    tie, nobody = WEIGHT_TIE[exact], 2 * pixels
    wins = (score > 0) & (weight > tie) & (score >= (1 - tie) * best.gather(1, index))
    first = source.new_full((len(index), pixels + 1), nobody)
    first = first.scatter_reduce(1, index, torch.where(wins, source, nobody), "amin")[:, :pixels].long()
    return torch.where(first < nobody, first, -1).unflatten(1, flow01.shape[2:])


def hard_switch(z0: Tensor, z1: Tensor, flow01: Tensor, flow10: Tensor, delta: Times) -> Tensor:
    """Take at every pixel the *unwarped* latent of the image that agrees better: the released code's low level.

    Source: DreamMover's released code (not in the paper): w_i = clip(0.3 - L_i, 0.001, 1) * (1-d or d), where
    L_i = mean over channels of |z_i - backwarp(z_other, F)|; image 0 where w0 >= w1.
    """
    d = _times(delta, len(z0)).to(z0.device, at_least_float32(z0).dtype)
    loss0 = (z0 - backwarp(z1, flow01)).abs().mean(dim=1, keepdim=True)
    loss1 = (z1 - backwarp(z0, flow10)).abs().mean(dim=1, keepdim=True)
    weight0 = (0.3 - loss0).clamp(0.001, 1.0) * (1 - d)
    weight1 = (0.3 - loss1).clamp(0.001, 1.0) * d
    return torch.where(weight0 >= weight1, z0, z1)


def _times(delta: Times, batch: int = 1) -> Tensor:
    """Return delta as [n,1,1,1] in float64 on the CPU; several times are for one pair, or one each for `batch`."""
    try:
        d = torch.as_tensor(delta, dtype=torch.float64, device="cpu").reshape(-1, 1, 1, 1)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"delta={delta!r} is no time: give a number within [0, 1], or several.") from None
    if d.numel() == 0 or not ((d >= 0) & (d <= 1)).all():
        raise ValueError(f"delta={delta} must lie within [0, 1]: 0 is the time of image 0, 1 that of image 1.")
    if min(len(d), batch) > 1 and len(d) != batch:
        raise ValueError(f"{len(d)} times for {batch} pairs: give one time, one per pair, or one pair at a time.")
    return d
