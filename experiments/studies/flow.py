"""How far is the flow of an estimator from the true one? PCK@0.1 in per cent, median and mean end-point error in image
pixels, over the pixels of actors that both images show (on the photographs: of everything that both show), one row per
pair and estimator; the first eight held-out world pairs.

kind: "hard", amount = displacement in sides, with a turn, a change of scale, pose and light, and a moving camera;
"easy", amount = displacement, nothing else changes; "turn", amount = degrees, on top of a displacement of a quarter;
"photographs", the motorcycle pair. share: of the asked pixels that the row is about, in per cent. length: their median
true flow in px. features: `feature_block`'s up-block at the paper's noise step; second up-block: the paper's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.bench.metrics import end_point_error, pck, resize_flow
from interp_lib.bench.warping import tvl1_flow
from interp_lib.dreammover.classical import block_flow, patch_features
from interp_lib.dreammover.ddim import Inversion, invert
from interp_lib.dreammover.features import diffusion_features, feature_block
from interp_lib.dreammover.flow import combine_features, consistency_mask, match_features, refine_subpixel
from interp_lib.models.image_model import ImageModel, randomly_initialised
from interp_lib.pairs.load import load_pair
from interp_lib.types import Pair
from interp_lib.world.render import render
from interp_lib.world.scene import sample_scene
from interp_lib.world.truth import true_flow

VERSION = 1
MODEL = "image"
SEEDS = range(8)
HARD, EASY, TURNS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.25, 0.4), (30.0, 60.0, 90.0)
STEP, OTHER_STEPS = 14, (8, 20)  # noise steps of 50: the paper's, and the two that the combination adds
LEAST = 32  # asked pixels; a pair with fewer is left out
TURN = 8  # where a scene's actors keep their turn, in radians
ITEMS = [{"kind": "photographs", "seed": 0, "amount": 0.0}]
ITEMS += [
    {"kind": kind, "seed": seed, "amount": amount}
    for seed in SEEDS
    for kind, amounts in (("hard", HARD), ("easy", EASY), ("turn", TURNS))
    for amount in amounts
]


def measure(model: ImageModel, *, kind: str, seed: int, amount: float) -> list[dict]:
    """One row for each estimator and refinement on one pair."""
    pair = study_pair(kind, seed, amount, size=model.native_size)
    asked = pair.visible01 if pair.actor0 is None else pair.visible01 & pair.actor0
    if asked.sum() < LEAST:
        return []
    length = float(pair.flow01.norm(dim=1, keepdim=True)[asked].median())
    flows = estimates(model, pair, seed)
    kept = {"": torch.ones_like(asked)}
    for name in ("features", "raw patches"):
        agree = consistency_mask(flows[name], flows.pop(f"{name} back"))
        agree = F.interpolate(agree.float(), size=asked.shape[-2:], mode="nearest-exact") > 0.5
        kept |= {f"{name}, consistent": agree, f"{name}, inconsistent": ~agree}
    rows = []
    for name, flow in flows.items():
        for label, mask in kept.items():
            if label.startswith(f"{name}, ") or not label:
                rows.append({"estimator": label or name, "length": length, **_score(flow, pair, asked, mask)})
    return rows


def study_pair(kind: str, seed: int, amount: float, *, size: int) -> Pair:
    """A pair of the study; "turn" is an easy pair with a turn of its actors."""
    if kind == "photographs":
        return load_pair("motorcycle", size=size)
    scene = sample_scene(seed, hard=kind == "hard", displacement=0.25 if kind == "turn" else amount)
    if kind == "turn":
        scene.actors[..., TURN] = math.radians(amount)
    image0, image1 = (render(scene, time, size=size) for time in (0.0, 1.0))
    flow01, visible01, parts = true_flow(scene, 0, 1, size=size)
    return Pair(f"{kind}:{seed}", image0, image1, flow01=flow01, visible01=visible01, actor0=parts >= 0)


def estimates(model: ImageModel, pair: Pair, seed: int) -> dict[str, Tensor]:
    """Name -> flow image 0 -> image 1, and under "NAME back" the flow the other way, where a mask is made of it.

    seed: of the untrained network's random weights.
    """
    ends, factor = (pair.image0, pair.image1), model.vae_factor
    images = torch.cat(ends)
    grid = tuple(side // factor for side in images.shape[-2:])
    block = feature_block(model, min(images.shape[-2:]))

    def features(net: ImageModel, inversion: Inversion, step: int = STEP, block: int = block) -> Tensor:
        return diffusion_features(net, None, inversion=inversion, step=step, block=block, progress=False)

    def match(found: Tensor, size: tuple[int, int] = grid) -> Tensor:
        return match_features(*found.split(1), size=size)

    inversion = invert(model, images, inversion_steps=max(OTHER_STEPS), preset="released", progress=False)
    control = randomly_initialised(model, seed)
    random = features(control, invert(control, images, inversion_steps=STEP, preset="released", progress=False))
    found, paper = features(model, inversion), features(model, inversion, block=1)
    second = features(model, inversion, block=2) if block == 1 else paper  # where the own block is the paper's already
    others = [features(model, inversion, step=step) for step in OTHER_STEPS]
    patches = patch_features(images, stride=factor)
    flow = match(found)
    return {
        "zero flow": torch.zeros_like(flow),
        "TV-L1": tvl1_flow(*ends),
        "block matching": block_flow(*ends, factor=factor),
        "raw patches": match(patches),
        "raw patches back": match(patches.flip(0)),
        "untrained": match(random),
        "second up-block": match(paper),
        "features": flow,
        "features back": match(found.flip(0)),
        "sub-pixel": refine_subpixel(*found.split(1), flow, size=grid),
        "finer grid": match(found, (2 * grid[0], 2 * grid[1])),
        "three noise steps": match(combine_features([found, *others], size=grid)),
        "two up-blocks": match(combine_features([found, second], size=grid)),
        "with raw patches": match(combine_features([found, patches], size=grid)),
    }


def _score(flow: Tensor, pair: Pair, asked: Tensor, kept: Tensor) -> dict[str, float | None]:
    mask, share = asked & kept, float((asked & kept).sum() / asked.sum())
    if not mask.any():
        return {"share": 0.0, "pck": None, "median": None, "mean": None}
    flow = resize_flow(flow.cpu(), tuple(pair.flow01.shape[-2:]))
    error = end_point_error(flow, pair.flow01)[mask]
    exact = {"share": share, "pck": pck(flow, pair.flow01, mask)}
    percent = {name: round(100 * value, 2) for name, value in exact.items()}
    return {**percent, "median": round(float(error.median()), 3), "mean": round(float(error.mean()), 3)}
