"""Is a pair worth a run? What its flow, found before any sampling, says about the frames that DreamMover will make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.dreammover.ddim import timesteps
from interp_lib.dreammover.features import diffusion_features
from interp_lib.dreammover.flow import backwarp, check_flow, consistency_mask, match_features
from interp_lib.dreammover.inputs import prepare_images
from interp_lib.dreammover.splat import softmax_splat
from interp_lib.models.image_model import ImageModel

if TYPE_CHECKING:
    from PIL.Image import Image

NEAR = 0.1  # of the longer side, as in PCK@0.1: positions that lie nearer count as the same
CHANGED = 0.15  # difference in a colour channel from which a pixel counts as changed, in [0,1]

# Quartiles of the held-out pairs that the study of suitability sets apart for this.
LIMITS = {"score": 0.6, "change": 0.33, "residue": 0.13}
REASONS = {
    "change": "where the images differ they differ by {:.2f} of the range of colours (more than {:.2f} is unusual), so "
    "that every error of the motion shows: take images nearer in time, or with less contrast around what moves.",
    "residue": "warped to t = 0.5 by their flows the images still differ by {:.2f} of the range of colours (more than "
    "{:.2f} is unusual), so that the frame mixes what does not belong together: take images that share more.",
}


@dataclass(frozen=True)
class Suitability:
    """What is known about a pair before it is interpolated.

    score: in [0,1], (1 - change)(1 - residue). change: root mean square difference of the images, in [0,1], over the
    pixels that differ by more than 0.15 in a channel. residue: likewise of the two images splatted to t = 0.5, each by
    its own flow, where both cover the pixel. The rest describes the flow and is no part of the score (docs/failures.md
    has what each predicts). consistent: share of the positions that return from the other image to within a tenth of
    the longer side. smooth: share whose flow equals the right or lower neighbour's, to within as much. covered: share
    of the frame at t = 0.5 that something is splatted to. displacement: mean length of the flow, in diagonals.
    similarity: mean cosine of the matched features, None where only a flow was given. reasons: one sentence for each
    part of the score that is unusual, the worst first. flow01, flow10: [1,2,h,w] in pixels of their own grid.
    unet_calls: what it cost.
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
        """Whether the score lies in the lowest quarter of the pairs that the limit was taken from."""
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
    """Judge how likely `interpolate` is to do well on this pair, from the flow that it will use, before any sampling.

    Source: ours. A frame is wrong where something that differs between the images is put in the wrong place, and by as
    much as it differs: so the score falls with the contrast of what changes, and with what the flow leaves unexplained.
    image0, image1: one image each, of one size. size: resized to it as by `fit_images`, None retains theirs, cropped to
    the model's multiple. steps, feature_step, block: as of `diffusion_features`, by default those of `interpolate`. A
    LoRA on the model acts as it does in a run. U-Net calls: feature_step + 1, with both images in one batch.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    steps = len(timesteps(model, steps))
    if feature_step is not None:
        feature_step = check_int("feature_step", feature_step, 1, steps)
    images, _ = prepare_images(model, (image0, image1), size=size)
    with model.lock:
        calls = model.unet_calls
        features = diffusion_features(
            model, images, step=feature_step, block=block, steps=steps, prompt=prompt, progress=progress
        )
        calls = model.unet_calls - calls
    grid = tuple(side // model.vae_factor for side in images.shape[-2:])
    first, second = F.interpolate(features, grid, mode="bilinear", align_corners=False).split(1)
    flow01, flow10 = match_features(first, second), match_features(second, first)
    both_ways = ((first, second, flow01), (second, first, flow10))
    cosines = [F.cosine_similarity(a, backwarp(b, flow)).mean() for a, b, flow in both_ways]
    return judge_flow(images, flow01, flow10, similarity=float(sum(cosines) / 2), unet_calls=calls)


def judge_flow(
    images: Tensor, flow01: Tensor, flow10: Tensor, *, similarity: float | None = None, unet_calls: int = 0
) -> Suitability:
    """Score two images [2,3,H,W] in [0,1] under any two flows [1,2,h,w], in pixels of their own grid.

    Raises ValueError for flows that do not fit each other or are finer than the images.
    """
    check_flow(flow10, flow01)
    check_flow(flow01, flow10)
    height, width = flow01.shape[-2:]
    if len(images) != 2 or height > images.shape[-2] or width > images.shape[-1]:
        raise ValueError(f"flow01 is [1,2,{height},{width}] and images {list(images.shape)}: give two, no smaller.")
    near, both_ways = NEAR * max(height, width), ((flow01, flow10), (flow10, flow01))
    returns = torch.cat([consistency_mask(a, b, tolerance=near) for a, b in both_ways])
    jumps = torch.cat([flow.diff(dim=dim).norm(dim=1).flatten() for flow, _ in both_ways for dim in (2, 3)])
    length = torch.cat([flow01, flow10]).norm(dim=1).mean() / (height**2 + width**2) ** 0.5
    change, residue, covered = _differences(images, flow01, flow10)
    parts = {"change": change, "residue": residue}
    unusual = sorted((p for p in parts if parts[p] > LIMITS[p]), key=lambda p: LIMITS[p] / parts[p])
    return Suitability(
        score=(1 - change) * (1 - residue),
        change=change,
        residue=residue,
        consistent=float(returns.float().mean()),
        smooth=float((jumps <= near).float().mean()),
        covered=covered,
        displacement=float(length),
        similarity=similarity,
        reasons=[REASONS[p].format(parts[p], LIMITS[p]) for p in unusual],
        flow01=flow01,
        flow10=flow10,
        unet_calls=unet_calls,
    )


def _differences(images: Tensor, flow01: Tensor, flow10: Tensor) -> tuple[float, float, float]:
    """Return (change, residue, covered), on the grid of the images."""
    size, (height, width) = images.shape[-2:], flow01.shape[-2:]
    scale = flow01.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1) / 2  # to t = 0.5
    halves = [F.interpolate(flow, size, mode="nearest-exact") * scale for flow in (flow01, flow10)]
    first, second = images.to(flow01).split(1)
    (a, weight_a), (b, weight_b) = softmax_splat(first, halves[0]), softmax_splat(second, halves[1])
    seen_a, seen_b = weight_a >= 0.5, weight_b >= 0.5
    changed = (first - second).abs().amax(1, keepdim=True) > CHANGED
    return (
        _root_mean_square(first - second, changed),
        _root_mean_square(a - b, seen_a & seen_b),
        float((seen_a | seen_b).float().mean()),
    )


def _root_mean_square(difference: Tensor, counted: Tensor) -> float:
    """Average over channels and the pixels that count; 0 where none does."""
    square = difference.square().mean(1, keepdim=True)[counted]
    return float(square.mean().sqrt()) if square.numel() else 0.0
