"""Is a pair worth a run? What its flow, estimated before any sampling, says about the frames of a run."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from interp_lib.dreammover.features import diffusion_features, match_both_ways
from interp_lib.dreammover.flow import check_flow, consistency_mask
from interp_lib.dreammover.inputs import prepare_images
from interp_lib.dreammover.splat import softmax_splat
from interp_lib.models.image_model import ImageModel, check_model

NEAR = 0.1  # of the longer side, as in PCK@0.1: positions that lie nearer count as the same
CHANGED = 0.15  # difference in a colour channel from which a pixel counts as changed, in [0,1]


@dataclass(frozen=True)
class Suitability:
    """What is known about a pair before it is interpolated (docs/failures.md has what each number predicts).

    score: in [0,1], (1 - change)(1 - residue): a number to compare pairs with, and no verdict. change: root mean square
    difference of the images, in [0,1], over the pixels that differ by more than 0.15 in a channel. residue: likewise of
    the two images splatted to t = 0.5, each by its own flow, where both cover the pixel. The rest is of the flow.
    consistent: share of the positions that return from the other image to within a tenth of the longer side. smooth:
    share whose flow is the right or lower neighbour's, to within as much. covered: share of the frame at t = 0.5 that
    something is splatted to. displacement: mean length, in diagonals. flow01, flow10: [1,2,h,w] in its pixels.
    """

    score: float
    change: float
    residue: float
    consistent: float
    smooth: float
    covered: float
    displacement: float
    flow01: Tensor
    flow10: Tensor


def suitability(
    model: ImageModel,
    image0: Tensor | Image.Image,
    image1: Tensor | Image.Image,
    *,
    steps: int = 50,
    prompt: str = "",
    progress: bool = True,
) -> Suitability:
    """Judge a pair by the flow that `interpolate` will use with the same steps and prompt, before any sampling.

    Source: ours. A frame is wrong where something that differs between the images is put in the wrong place, and by as
    much as it differs: so the score falls with the contrast of what changes, and with what the flow leaves unexplained.
    image0, image1: as of `interpolate`. U-Net calls: 15 for 50 steps. Raises ValueError for what does not fit.
    """
    check_model(model)
    images, _ = prepare_images(model, (image0, image1))
    features = diffusion_features(model, images, steps=steps, prompt=prompt, progress=progress)
    height, width = (side // model.vae_factor for side in images.shape[-2:])
    return judge_flow(images, *match_both_ways(features, (height, width)))


def judge_flow(images: Tensor, flow01: Tensor, flow10: Tensor) -> Suitability:
    """Score two images [2,3,H,W] in [0,1] under any two flows [1,2,h,w], in pixels of their own grid, no finer."""
    check_flow(flow10, flow01)
    sides, size = flow01.shape[-2:], images.shape[-2:]
    near, both_ways = NEAR * max(sides), ((flow01, flow10), (flow10, flow01))
    returns = torch.cat([consistency_mask(a, b, tolerance=near) for a, b in both_ways])
    jumps = torch.cat([flow.diff(dim=dim).norm(dim=1).flatten() for flow, _ in both_ways for dim in (2, 3)])
    length = torch.cat([flow01, flow10]).norm(dim=1).mean() / (sides[0] ** 2 + sides[1] ** 2) ** 0.5

    scale = flow01.new_tensor([size[1] / sides[1], size[0] / sides[0]]).view(1, 2, 1, 1) / 2  # to t = 0.5
    halves = [F.interpolate(flow, size, mode="nearest-exact") * scale for flow in (flow01, flow10)]
    first, second = images.to(flow01).split(1)
    (a, weight_a), (b, weight_b) = softmax_splat(first, halves[0]), softmax_splat(second, halves[1])
    seen_a, seen_b = weight_a >= 0.5, weight_b >= 0.5
    change = _root_mean_square(first - second, (first - second).abs().amax(1, keepdim=True) > CHANGED)
    residue = _root_mean_square(a - b, seen_a & seen_b)
    shares = [float(x.float().mean()) for x in (returns, jumps <= near, seen_a | seen_b)]
    return Suitability((1 - change) * (1 - residue), change, residue, *shares, float(length), flow01, flow10)


def _root_mean_square(difference: Tensor, counted: Tensor) -> float:
    """Average over channels and the pixels that count; 0 where none does."""
    square = difference.square().mean(1, keepdim=True)[counted]
    return float(square.mean().sqrt()) if square.numel() else 0.0
