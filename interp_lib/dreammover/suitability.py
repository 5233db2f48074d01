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

NEAR = 0.1  # of the longer side, as in PCK@0.1: positions that lie nearer count as the same
CHANGED = 0.15  # difference in a colour channel from which a pixel counts as changed, in [0,1]

# What a quarter lies beyond of the held-out pairs that `experiments.studies.suitability` sets apart for this.
LIMITS = {"score": 0.6, "change": 0.33, "residue": 0.13}
REASONS = {
    "change": "where the images differ they differ by {:.2f} of the range of colours (more than {:.2f} is unusual), so "
    "that every error of the motion shows: take images nearer in time, or with less contrast around what moves.",
    "residue": "brought half-way by their flows the images still differ by {:.2f} of the range of colours (more than "
    "{:.2f} is unusual), so that the frame mixes what does not belong together: take images that share more.",
}


@dataclass(frozen=True)
class Suitability:
    """What is known about a pair before it is interpolated.

    score: in [0,1], (1 - change)(1 - residue). change: root mean square difference of the images, in [0,1], over the
    pixels that differ by more than 0.15 in a channel. residue: likewise of the two images brought half-way, each by its
    own flow, where both have something. The rest says what the flow is like and is no part of the score;
    docs/failures.md has what each foretells. consistent: share of the positions that come back from the other image to
    within a tenth of the longer side. smooth: share that is moved like the right or lower neighbour, to within as much.
    covered: share of the frame half-way that something is splatted to.
    displacement: mean length of the flow, in diagonals. similarity: mean cosine of the matched features, None where
    only a flow was given. reasons: one sentence for each part of the score that is unusual, the worst first. flow01,
    flow10: [1,2,h,w] in pixels of their own grid. unet_calls: what it cost.
    """

    score: float
    change: float
    residue: float
    consistent: float
    smooth: float
    covered: float
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

    Source: ours. A frame is wrong where something that differs between the images is put in the wrong place, and by as
    much as it differs: so the score falls with the contrast of what changes, and with what the flow leaves unexplained.
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
    check_flow(flow01, flow10)
    height, width = flow01.shape[-2:]
    if len(images) != 2 or height > images.shape[-2] or width > images.shape[-1]:
        raise ValueError(f"flow01 is [1,2,{height},{width}] and images {list(images.shape)}: give two, no smaller.")
    near, ways = NEAR * max(height, width), ((flow01, flow10), (flow10, flow01))
    back = torch.cat([consistency_mask(*way, tolerance=near) for way in ways])
    jumps = torch.cat([flow.diff(dim=dim).norm(dim=1).flatten() for flow, _ in ways for dim in (2, 3)])
    length = torch.cat([flow01, flow10]).norm(dim=1).mean() / (height**2 + width**2) ** 0.5
    change, residue, covered = _differences(images, flow01, flow10)
    return Suitability(
        score=(1 - change) * (1 - residue),
        change=change,
        residue=residue,
        consistent=float(back.float().mean()),
        smooth=float((jumps <= near).float().mean()),
        covered=covered,
        displacement=float(length),
        similarity=similarity,
        reasons=_reasons({"change": change, "residue": residue}),
        flow01=flow01,
        flow10=flow10,
        unet_calls=unet_calls,
    )


def _differences(images: Tensor, flow01: Tensor, flow10: Tensor) -> tuple[float, float, float]:
    """(change, residue, covered), on the grid of the images."""
    size, (height, width) = images.shape[-2:], flow01.shape[-2:]
    scale = flow01.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1) / 2  # half-way
    halves = [F.interpolate(flow, size, mode="nearest-exact") * scale for flow in (flow01, flow10)]
    first, second = images.to(flow01).split(1)
    (a, at_a), (b, at_b) = softmax_splat(first, halves[0]), softmax_splat(second, halves[1])
    there = [weight >= 0.5 for weight in (at_a, at_b)]
    changed = (first - second).abs().amax(1, keepdim=True) > CHANGED
    return (
        _root_mean_square(first - second, changed),
        _root_mean_square(a - b, there[0] & there[1]),
        float((there[0] | there[1]).float().mean()),
    )


def _root_mean_square(difference: Tensor, counted: Tensor) -> float:
    """Over channels and the pixels that count; 0 where none does."""
    square = difference.square().mean(1, keepdim=True)[counted]
    return float(square.mean().sqrt()) if square.numel() else 0.0


def _reasons(parts: dict[str, float]) -> list[str]:
    """A sentence for each part beyond its limit, the furthest beyond first."""
    high = sorted((name for name in parts if parts[name] > LIMITS[name]), key=lambda k: LIMITS[k] / parts[k])
    return [REASONS[name].format(parts[name], LIMITS[name]) for name in high]
