"""How well PCA colours of U-Net features agree between two images, block by block and step by step."""

import torch
from torch import Tensor

from experiments.studies import study
from interp_lib.bench.agreement import part_agreement, pca_colours, place_agreement
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import diffusion_features
from interp_lib.models.image_model import ImageModel, randomly_initialised
from interp_lib.pairs.load import load_pair
from interp_lib.types import Pair

STEPS = (2, 8, 14, 20, 26)
PAIRS = ("motorcycle", *(f"world:{seed}" for seed in range(10)))


@study("image", [{"pair": pair, "network": network} for pair in PAIRS for network in ("trained", "untrained")])
def features(model: ImageModel, *, pair: str, network: str) -> list[dict]:
    """Do U-Net features of two images share one layout? How often PCA colours find the true partner (Fig. 3), in per
    cent, over blocks and noise steps, for the trained network and for one with random weights, on the held-out world
    pairs of the seeds 0 to 9 and on the motorcycle photographs.

    block: up-block from 0, or -1 for the latents that the network is given (at step 0 the picture's own, clean ones).
    place: the rivals lie as far away as the partner. part: they lie on the same actor (world pairs only). recoloured:
    place, with the colour channels of image 1 exchanged. shuffled: place, with the pixels of image 1 in random order.
    own: place, with a PCA for each image alone. Every random network has another seed, that of its pair.
    """
    shown, seed = load_pair(pair, size=model.native_size), int(pair.partition(":")[2] or 0)
    net = model if network == "trained" else randomly_initialised(model, seed)
    order = torch.randperm(shown.image1[0, 0].numel(), generator=torch.Generator().manual_seed(seed))
    recoloured, shuffled = shown.image1[:, [1, 2, 0]], shown.image1.flatten(2)[..., order].view_as(shown.image1)
    images = torch.cat([shown.image0, shown.image1, recoloured, shuffled])
    inversion = invert(net, images, inversion_steps=max(STEPS), preset="released", progress=False)
    rows = [{"step": 0, "block": -1, **_scores(inversion.latents[0], shown)}]
    for step in STEPS:
        rows.append({"step": step, "block": -1, **_scores(inversion.latents[step], shown)})
        for block in range(len(net.unet.up_blocks)):
            output = diffusion_features(net, None, inversion=inversion, step=step, block=block, progress=False)
            rows.append({"step": step, "block": block, **_scores(output, shown)})
    return rows


def _scores(output: Tensor, pair: Pair) -> dict[str, float | None]:
    """All scores, in per cent, of features of image 0, image 1, and image 1 recoloured and shuffled."""
    flow, asked = pair.flow01, pair.visible01 if pair.actor0 is None else pair.visible01 & pair.actor0
    joint, recoloured, shuffled = (pca_colours(output[[0, k]]) for k in (1, 2, 3))
    own = torch.cat([pca_colours(output[k : k + 1]) for k in (0, 1)])
    colours = {"place": joint, "recoloured": recoloured, "shuffled": shuffled, "own": own}
    scores = {name: place_agreement(x, flow, asked) for name, x in colours.items()}
    scores["part"] = None if pair.actor0 is None else part_agreement(joint, flow, asked)
    return {name: share if share is None else round(100 * share, 2) for name, share in scores.items()}
