"""How far the flow of each estimator is from the true one, by the kind and amount of motion."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.studies import study
from interp_lib.bench.metrics import end_point_error, pck, resize_flow
from interp_lib.bench.warping import tvl1_flow
from interp_lib.dreammover.classical import block_flow, patch_features
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features, feature_block
from interp_lib.dreammover.flow import combine_features, consistency_mask, match_features, refine_subpixel
from interp_lib.models.image_model import ImageModel, randomly_initialised
from interp_lib.pairs.load import load_pair
from interp_lib.types import Pair
from interp_lib.world.render import render
from interp_lib.world.scene import sample_scene
from interp_lib.world.truth import true_flow

AMOUNTS = {"hard": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5), "easy": (0.1, 0.25, 0.4), "turn": (30.0, 60.0, 90.0)}
STEP, OTHER_STEPS = 14, (8, 20)  # noise steps of 50: the paper's, and the two that the combination adds
LEAST = 32  # asked pixels; a pair with fewer is left out
TURN = 8  # where a scene's actors keep their turn, in radians
ITEMS = [{"kind": "photographs", "seed": 0, "amount": 0.0}]
ITEMS += [{"kind": k, "seed": s, "amount": a} for s in range(8) for k, amounts in AMOUNTS.items() for a in amounts]


@study("image", ITEMS)
def flow(model: ImageModel, *, kind: str, seed: int, amount: float) -> list[dict]:
    """How far is the flow of an estimator from the true one? PCK@0.1 in per cent, median and mean end-point error in
    image pixels, over the pixels of actors that both images show (on the photographs: of everything that both show),
    one row per pair and estimator; the first eight held-out world pairs.

    kind: "hard", amount = displacement in sides, with a turn, a change of scale, pose and light, and a moving camera;
    "easy", amount = displacement, nothing else changes; "turn", amount = degrees, on top of a displacement of a
    quarter; "photographs", the motorcycle pair. share: of the asked pixels that the row is about, in per cent. length:
    their median true flow in px. features: `feature_block`'s up-block at the paper's noise step; second up-block: the
    paper's.
    """
    pair = study_pair(kind, seed, amount, size=model.native_size)
    asked = pair.visible01 if pair.actor0 is None else pair.visible01 & pair.actor0
    if asked.sum() < LEAST:
        return []
    length = float(pair.flow01.norm(dim=1, keepdim=True)[asked].median())
    flows, rows = estimates(model, pair, seed), []
    back = {name: flows.pop(f"{name} back") for name in ("features", "raw patches")}
    for name, found in flows.items():
        parts = {name: asked}
        if name in back:
            agree = consistency_mask(found, back[name]).float()
            agree = F.interpolate(agree, size=asked.shape[-2:], mode="nearest-exact") > 0.5
            parts |= {f"{name}, consistent": asked & agree, f"{name}, inconsistent": asked & ~agree}
        for label, mask in parts.items():
            share = float(mask.sum() / asked.sum())
            rows.append({"estimator": label, "length": length, **_score(found, pair, mask, share)})
    return rows


def study_pair(kind: str, seed: int, amount: float, *, size: int) -> Pair:
    """Return a pair of the study; "turn" is an easy pair with a turn of its actors."""
    if kind == "photographs":
        return load_pair("motorcycle", size=size)
    scene = sample_scene(seed, hard=kind == "hard", displacement=0.25 if kind == "turn" else amount)
    if kind == "turn":
        scene.actors[..., TURN] = math.radians(amount)
    image0, image1 = (render(scene, time, size=size) for time in (0.0, 1.0))
    flow01, visible01, parts = true_flow(scene, 0, 1, size=size)
    return Pair(f"{kind}:{seed}", image0, image1, flow01=flow01, visible01=visible01, actor0=parts >= 0)


def estimates(model: ImageModel, pair: Pair, seed: int) -> dict[str, Tensor]:
    """Name -> flow image 0 -> image 1, and under "NAME back" the flow the other way, where a mask is made of it."""
    ends, factor = (pair.image0, pair.image1), model.vae_factor
    images = torch.cat(ends)
    grid = tuple(side // factor for side in images.shape[-2:])
    block = feature_block(model, min(images.shape[-2:]))

    def features(net: ImageModel = model, step: int = STEP, block: int = block) -> Tensor:
        return diffusion_features(net, None, inversion=inversions[net], step=step, block=block, progress=False)

    def match(found: Tensor, size: tuple[int, int] = grid) -> Tensor:
        return match_features(*found.split(1), size=size)

    control = randomly_initialised(model, seed)
    inversions = {
        net: invert(net, images, inversion_steps=steps, preset="released", progress=False)
        for net, steps in ((model, max(OTHER_STEPS)), (control, STEP))
    }
    found, paper, patches = features(), features(block=1), patch_features(images, stride=factor)
    second = features(block=2) if block == 1 else paper  # where the own block is the paper's already
    others = [features(step=step) for step in OTHER_STEPS]
    matched = match(found)
    return {
        "zero flow": torch.zeros_like(matched),
        "TV-L1": tvl1_flow(*ends),
        "block matching": block_flow(*ends, factor=factor),
        "raw patches": match(patches),
        "raw patches back": match(patches.flip(0)),
        "untrained": match(features(control)),
        "second up-block": match(paper),
        "features": matched,
        "features back": match(found.flip(0)),
        "sub-pixel": refine_subpixel(*found.split(1), matched, size=grid),
        "finer grid": match(found, (2 * grid[0], 2 * grid[1])),
        "three noise steps": match(combine_features([found, *others], size=grid)),
        "two up-blocks": match(combine_features([found, second], size=grid)),
        "with raw patches": match(combine_features([found, patches], size=grid)),
    }


def _score(found: Tensor, pair: Pair, mask: Tensor, share: float) -> dict[str, float | None]:
    if not mask.any():
        return {"share": 0.0, "pck": None, "median": None, "mean": None}
    found = resize_flow(found.cpu(), tuple(pair.flow01.shape[-2:]))
    error = end_point_error(found, pair.flow01)[mask]
    percent = {"share": round(100 * share, 2), "pck": round(100 * pck(found, pair.flow01, mask), 2)}
    return {**percent, "median": round(float(error.median()), 3), "mean": round(float(error.mean()), 3)}
