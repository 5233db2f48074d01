"""Do U-Net features of two images share one layout? How often PCA colours find the true partner (Fig. 3), in per cent,
over blocks and noise steps, for the trained network and for one with random weights, on the held-out world pairs of the
seeds 0 to 9 and on the motorcycle photographs.

block: up-block from 0, or -1 for the latents that the network is given (at step 0 the picture's own, clean ones).
place: the rivals lie as far away as the partner. part: they lie on the same actor (world pairs only).
recoloured: place, with the colour channels of image 1 exchanged. shuffled: place, with the pixels of image 1 in random
order. own: place, with a PCA for each image alone. Every random network has another seed, that of its pair.
"""

from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.agreement import part_agreement, pca_colours, place_agreement
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features
from interp_lib.models.image_model import ImageModel, randomly_initialised
from interp_lib.pairs.load import load_pair
from interp_lib.types import Pair

VERSION = 1
MODEL = "image"
STEPS = (2, 8, 14, 20, 26)
NETWORKS = ("trained", "untrained")
ITEMS = [
    {"pair": pair, "network": network}
    for pair in ("motorcycle", *(f"world:{seed}" for seed in range(10)))
    for network in NETWORKS
]


def measure(model: ImageModel, *, pair: str, network: str) -> list[dict[str, Any]]:
    """One row for each step and block of one network on one pair, one inversion for all."""
    shown = load_pair(pair, size=model.native_size)
    seed = int(pair.partition(":")[2] or 0)
    net = model if network == "trained" else randomly_initialised(model, seed)
    order = torch.randperm(shown.image1[0, 0].numel(), generator=torch.Generator().manual_seed(seed))
    recoloured, shuffled = shown.image1[:, [1, 2, 0]], shown.image1.flatten(2)[..., order].view_as(shown.image1)
    images = torch.cat([shown.image0, shown.image1, recoloured, shuffled])
    inversion = invert(net, images, inversion_steps=max(STEPS), preset="released", progress=False)
    rows = [{"step": 0, "block": -1, **_scores(inversion.latents[0], shown)}]
    for step in STEPS:
        rows.append({"step": step, "block": -1, **_scores(inversion.latents[step], shown)})
        for block in range(len(net.unet.up_blocks)):
            features = diffusion_features(net, None, inversion=inversion, step=step, block=block, progress=False)
            rows.append({"step": step, "block": block, **_scores(features, shown)})
    return rows


def _scores(features: Tensor, pair: Pair) -> dict[str, float | None]:
    """All scores, in per cent, of features of image 0, image 1, and image 1 recoloured and shuffled."""
    flow, known = pair.flow01, pair.visible01
    asked = known if pair.actor0 is None else known & pair.actor0
    joint, recoloured, shuffled = (pca_colours(features[[0, k]]) for k in (1, 2, 3))
    own = torch.cat([pca_colours(features[k : k + 1]) for k in (0, 1)])
    scores = {
        name: place_agreement(colours, flow, asked)
        for name, colours in (("place", joint), ("recoloured", recoloured), ("shuffled", shuffled), ("own", own))
    }
    scores["part"] = part_agreement(joint, flow, asked) if pair.actor0 is not None else None
    return {name: share if share is None else round(100 * share, 2) for name, share in scores.items()}
