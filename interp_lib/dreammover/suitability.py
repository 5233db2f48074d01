"""Is a pair worth a run? What its flow, found before any sampling, says about the frames that DreamMover will make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.dreammover.ddim import timesteps
from interp_lib.dreammover.features import diffusion_features, feature_block
from interp_lib.dreammover.flow import backwarp, check_flow, consistency_mask, match_features
from interp_lib.dreammover.pipeline import prepare_images
from interp_lib.dreammover.splat import softmax_splat
from interp_lib.models.image_model import ImageModel

if TYPE_CHECKING:
    from PIL.Image import Image

NEAR = 0.1  # of the longer side, as in PCK@0.1, and of the range of a colour: what is nearer counts as the same
# What a quarter of the held-out pairs that `bench.studies.suitability` sets apart for this lies below.
LIMITS = {"score": 0.0, "consistent": 0.0, "smooth": 0.0, "covered": 0.0, "agreeing": 0.0}
REASONS = {
    "consistent": "of the positions come back from the other image: little is seen in both, or much looks alike",
    "smooth": "of the positions move like their neighbours: the flow tears what belongs together",
    "covered": "of the frame half-way have something splatted there: the rest is holes",
    "agreeing": "of the frame half-way get one colour from both images: there the frame mixes two things",
}


@dataclass(frozen=True)
class Suitability:
    """What is known about a pair before it is interpolated.

    score: in [0,1], the geometric mean of the four shares of positions that follow, each in [0,1]. consistent: come
    back from the other image to within a tenth of the longer side. smooth: are moved like their right and lower
    neighbours, to within as much. covered: of the frame half-way, have something of an image splatted there. agreeing:
    have the same colour, to within a tenth, splatted there from both images, of those that get one from both.
    displacement: mean length of the flow, in diagonals. similarity: mean cosine of the matched features, None where
    only a flow was given. reasons: one sentence for each share that is low. flow01, flow10: [1,2,h,w] in pixels of
    their own grid. unet_calls: what it cost.
    """

    score: float
    consistent: float
    smooth: float
    covered: float
    agreeing: float
    displacement: float
    similarity: float | None
    reasons: list[str]
    flow01: Tensor
    flow10: Tensor
    unet_calls: int = 0

    @property
    def likely_to_fail(self) -> bool:
        """Whether the score is as low as a quarter of the pairs have it that its limit was taken from."""
        return self.score < LIMITS["score"]


def suitability(
    model: ImageModel,
    image0: Tensor | Image,
    image1: Tensor | Image,
    *,
    size: int | tuple[int, int] | None = None,
    steps: int = 50,
    feature_step: int | None = None,
    block: int | None = None,
    prompt: str = "",
    progress: bool = True,
) -> Suitability:
    """How likely `interpolate` is to do well on this pair, from the flow between its features, before any sampling.

    Source: ours. What DreamMover splats lands where Eq. 5's flow says, so a flow that is not one to one, tears, leaves
    holes, or brings unlike colours to one place makes a frame that is none.
    image0, image1: one image each, of one size. size: brought there as by `fit_images`, None keeps theirs, cropped to
    the model's multiple. steps, feature_step: of the schedule, None is the paper's share, 14 of 50. block: the up-block
    of the features, None is `feature_block`'s. What sits on the model (a LoRA) acts as it does in a run.
    U-Net calls: feature_step + 1, with both images in one batch. Draws nothing.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    steps = len(timesteps(model, steps))
    step = max(1, round(14 / 50 * steps)) if feature_step is None else check_int("feature_step", feature_step, 1, steps)
    images, _, _ = prepare_images(model, image0, image1, size=size)
    calls = model.unet_calls
    how = {"step": step, "steps": steps, "prompt": prompt, "progress": progress}
    how["block"] = feature_block(model, min(images.shape[-2:])) if block is None else block
    grid = tuple(side // model.vae_factor for side in images.shape[-2:])
    features = diffusion_features(model, images, **how)
    first, second = F.interpolate(features, grid, mode="bilinear", align_corners=False).split(1)
    flows = match_features(first, second), match_features(second, first)
    ways = (first, second, flows[0]), (second, first, flows[1])
    cosines = [F.cosine_similarity(a, backwarp(b, flow)).mean() for a, b, flow in ways]
    return judge_flow(images, *flows, similarity=float(sum(cosines) / 2), unet_calls=model.unet_calls - calls)


def judge_flow(
    images: Tensor, flow01: Tensor, flow10: Tensor, *, similarity: float | None = None, unet_calls: int = 0
) -> Suitability:
    """The score of two images [2,3,H,W] in [0,1] under any two flows [1,2,h,w], in pixels of their own grid.

    Raises ValueError for flows that do not fit each other or are finer than the images.
    """
    check_flow(flow10, flow01)
    height, width = flow01.shape[-2:]
    if len(images) != 2 or height > images.shape[-2] or width > images.shape[-1]:
        raise ValueError(f"flow01 is [1,2,{height},{width}] and images {list(images.shape)}: give two, no smaller.")
    near, ways = NEAR * max(height, width), ((flow01, flow10), (flow10, flow01))
    back = torch.cat([consistency_mask(*way, tolerance=near) for way in ways])
    steps = [flow.diff(dim=dim).norm(dim=1) for flow, _ in ways for dim in (2, 3)]
    covered, agreeing = _half_way(F.interpolate(images, (height, width), mode="area").to(flow01), flow01, flow10)
    shares = {
        "consistent": _share(back),
        "smooth": _share(torch.cat([step.flatten() for step in steps]) <= near),
        "covered": _share(covered),
        "agreeing": _share(agreeing),
    }
    length = torch.cat([flow01, flow10]).norm(dim=1).mean() / (height**2 + width**2) ** 0.5
    score = float(torch.tensor(list(shares.values())).double().prod() ** (1 / len(shares)))
    known = {"displacement": float(length), "similarity": similarity, "unet_calls": unet_calls}
    return Suitability(score, **shares, **known, reasons=_reasons(shares), flow01=flow01, flow10=flow10)


def _half_way(small: Tensor, flow01: Tensor, flow10: Tensor) -> tuple[Tensor, Tensor]:
    """Where an image is splatted half-way, bool [1,1,h,w], and of the places with both, which agree, bool [n]."""
    (a, at_a), (b, at_b) = (softmax_splat(x, f / 2) for x, f in zip(small.split(1), (flow01, flow10), strict=True))
    there = [weight >= 0.5 for weight in (at_a, at_b)]
    close = (a - b).square().mean(1, keepdim=True).sqrt() <= NEAR
    return there[0] | there[1], close[there[0] & there[1]]


def _share(mask: Tensor) -> float:
    """0 of nothing."""
    return float(mask.float().mean()) if mask.numel() else 0.0


def _reasons(shares: dict[str, float]) -> list[str]:
    """A sentence for each share below its limit, the furthest below first."""
    low = sorted((name for name, share in shares.items() if share < LIMITS[name]), key=lambda k: shares[k] / LIMITS[k])
    return [f"only {shares[k]:.0%} (usual: {LIMITS[k]:.0%} and more) {REASONS[k]}." for k in low]
