"""Measure the embedded image model: every row of its model card, on seeds that no training saw (those start at 10**6).

The pairs are those of the picture-book world, half of the rows also on strangers. A film is judged by the PSNR of its
middle frame over the moving pixels, as its gain over a cross-dissolve divided by what splatting the pixels along the
true flow gains: that is the most that any fusion can be expected to reach.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from experiments.train.picture_quality import PAPER, SIZE, Figure, Figures, figure, latent_flows, measure_pictures
from interp_lib.bench.metrics import moving_pixels, pck, psnr, resize_flow
from interp_lib.bench.warping import tvl1_flow
from interp_lib.dreammover.classical import block_flow, patch_features
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.fusion import fusion_metrics, time_weighted_fusion
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.models import ImageModel, load_image_model, randomly_initialised
from interp_lib.types import Pair
from interp_lib.world.picture_book import sample_pair
from interp_lib.world.truth import pair_of

PIXELS = 32  # object pixels visible in both images that a pair needs
Flow = Callable[[Pair], Tensor]


def held_out(count: int, *, stranger: bool = False) -> list[Pair]:
    """Render the first `count` pairs with enough of their object to see in both images, with the true middle frame."""
    pairs, seed = [], 0
    while len(pairs) < count:
        pair = pair_of(sample_pair(seed, stranger=stranger), f"pair {seed}", size=SIZE, between=1)
        if (pair.visible01 & pair.actor0).sum() >= PIXELS:
            pairs.append(pair)
        seed += 1
    return pairs


def middle_psnr(frame: Tensor, pair: Pair) -> float:
    """Return the PSNR in dB over the moving pixels of the true middle frame."""
    truth = pair.frames[1:2]
    return float(psnr(frame.cpu(), truth, moving_pixels(pair, truth)))


def share(values: list[float], floor: list[float], ceiling: list[float]) -> Figure:
    """Return the mean gain over `floor` in per cent of the ceiling's, with its bootstrap error."""
    gain, most = np.subtract(values, floor), np.subtract(ceiling, floor)
    picks = np.random.default_rng(0).integers(len(gain), size=(1000, len(gain)))
    spread = np.std(gain[picks].mean(1) / most[picks].mean(1))
    return 100 * float(gain.mean() / most.mean()), 100 * float(spread), len(gain)


@torch.no_grad()
def measure_ceilings(model: ImageModel, pairs: list[Pair]) -> dict[str, list[float]]:
    """Measure what no U-Net has touched: a cross-dissolve, pixels and latents splatted along the true flow, and the
    true frame through the autoencoder; PSNR in dB a pair."""
    values: dict[str, list[float]] = {"dissolve": [], "pixels": [], "latents": [], "autoencoder": []}
    for pair in tqdm(pairs, desc="ceilings"):
        ends, flows = (pair.image0, pair.image1), (pair.flow01, pair.flow10)
        z = model.encode(torch.cat([*ends, pair.frames[1:2]]))
        coarse = latent_flows(model, pair)
        fused = time_weighted_fusion(z[:1], z[1:2], *coarse, 0.5, *fusion_metrics(z[:1], z[1:2], *coarse))
        latents, returned = model.decode(torch.cat([fused, z[2:]])).split(1)
        pixels = time_weighted_fusion(*ends, *flows, 0.5, *fusion_metrics(*ends, *flows))
        frames = (sum(ends) / 2, pixels, latents, returned)
        for name, frame in zip(values, frames, strict=True):
            values[name].append(middle_psnr(frame, pair))
    return values


def measure_films(model: ImageModel, pairs: list[Pair], values: dict[str, list[float]], name: str) -> Figures:
    """Make the middle frame with the model's own settings and at the paper's T, by its own flow and by the true one.

    values: of `measure_ceilings` for these pairs. Shares are of the gain of splatted pixels.
    """
    runs = {"default": {}, f"T = {PAPER}": {"inversion_steps": PAPER}}
    runs |= {f"{label}, true flow": settings for label, settings in runs.items()}
    films: dict[str, list[float]] = {label: [] for label in runs}
    for pair in tqdm(pairs, desc="films"):
        for label, settings in runs.items():
            flow = latent_flows(model, pair) if "true" in label else "diffusion"
            films[label].append(middle_psnr(make_middle(model, pair, flow=flow, **settings), pair))
    rows = {f"{name}: {kind}, PSNR": figure(numbers) for kind, numbers in values.items()}
    ends = values["dissolve"], values["pixels"]
    rows |= {f"{name}: latents along the true flow, share of the gain": share(values["latents"], *ends)}
    rows |= {f"{name}: film, {label}, share of the gain": share(numbers, *ends) for label, numbers in films.items()}
    return rows


def make_middle(model: ImageModel, pair: Pair, **settings) -> Tensor:
    """Make the one frame in the middle of a pair, `[1,3,H,W]`, without a LoRA unless the settings say so."""
    settings = {"lora": False} | settings
    return interpolate(model, pair.image0, pair.image1, frames=1, progress=False, **settings).frames[1:2]


def measure_flow(model: ImageModel, pairs: list[Pair], name: str) -> Figures:
    """Measure PCK@0.1 in per cent, on object pixels visible in both images, of the features and of four others."""
    untrained = randomly_initialised(model)
    estimators: dict[str, Flow] = {
        "features": lambda pair: feature_flow(model, pair),
        "paper's up-block": lambda pair: feature_flow(model, pair, block=1),
        "untrained features": lambda pair: feature_flow(untrained, pair),
        "raw patches": lambda pair: match_features(
            *(patch_features(x, stride=model.vae_factor) for x in (pair.image0, pair.image1))
        ),
        "block matching": lambda pair: block_flow(pair.image0, pair.image1, factor=model.vae_factor),
        "TV-L1": lambda pair: tvl1_flow(pair.image0, pair.image1),
    }
    rows = {}
    for label, flow in estimators.items():
        shares = []
        for pair in tqdm(pairs, desc=f"flow, {label}"):
            estimate = resize_flow(flow(pair).cpu(), tuple(pair.image0.shape[-2:]))
            shares.append(100 * pck(estimate, pair.flow01, pair.visible01 & pair.actor0))
        rows[f"{name}: PCK@0.1, {label}"] = figure(shares)
    return rows


def feature_flow(model: ImageModel, pair: Pair, block: int | None = None) -> Tensor:
    """Return the flow `[1,2,h,w]` by the features of the model's own block, or of another, in latent pixels."""
    inversion = invert(model, torch.cat([pair.image0, pair.image1]), inversion_steps=14, progress=False)
    return estimate_flow(model, inversion, block=block)[0]


def measure_identity(model: ImageModel, pairs: list[Pair], name: str, *, lora: bool) -> Figures:
    """Count the pairs, in per cent, whose middle frame is nearer to the truth with attention replacement, with the
    pair's LoRA than without, and with it than with the LoRA of the next pair."""
    better: dict[str, list[float]] = {}

    def add(label: str, frame: float, other: float) -> None:
        better.setdefault(f"{name}: {label}", []).append(100.0 * (frame > other))

    for pair, other in zip(tqdm(pairs, desc="identity"), pairs[1:] + pairs[:1], strict=True):
        plain = middle_psnr(make_middle(model, pair), pair)
        add(
            "attention replacement is better than none",
            plain,
            middle_psnr(make_middle(model, pair, attention=False), pair),
        )
        if lora:
            own, others = (middle_psnr(_with_lora(model, pair, of), pair) for of in (pair, other))
            add("the pair's LoRA is better than none", own, plain)
            add("the pair's LoRA is better than another pair's", own, others)
    return {label: figure(values) for label, values in better.items()}


def _with_lora(model: ImageModel, pair: Pair, of: Pair) -> Tensor:
    with fit_lora(model, torch.cat([of.image0, of.image1]), progress=False) as lora:
        return make_middle(model, pair, lora=lora)


def measure_image(model: ImageModel, *, pairs: int = 50, flow_pairs: int = 200, lora_pairs: int = 10) -> Figures:
    """Measure every row of the image model's card."""
    sets = {"world": held_out(max(pairs, flow_pairs)), "strangers": held_out(max(pairs, flow_pairs), stranger=True)}
    rows: Figures = {}
    for name, chosen in sets.items():
        rows |= measure_films(model, chosen[:pairs], measure_ceilings(model, chosen[:pairs]), name)
        rows |= measure_flow(model, chosen[:flow_pairs], name)
        rows |= measure_identity(model, chosen[:pairs], name, lora=False)
    rows |= measure_identity(model, sets["strangers"][:lora_pairs], "strangers", lora=True)
    return rows | measure_pictures(model, sets["world"][:pairs])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.train.quality", description=__doc__)
    parser.add_argument("--model", default="embedded", help="a folder in diffusers' format")
    parser.add_argument("--pairs", type=int, default=50, help="pairs of a row")
    parser.add_argument("--flow-pairs", type=int, default=200, help="pairs of the rows on flow")
    parser.add_argument("--lora-pairs", type=int, default=10, help="pairs of the rows on LoRA")
    args = parser.parse_args()
    counts = {"pairs": args.pairs, "flow_pairs": args.flow_pairs, "lora_pairs": args.lora_pairs}
    for row, (mean, spread, count) in measure_image(load_image_model(args.model), **counts).items():
        print(f"{row:70s} {mean:8.2f} +- {spread:6.2f}  n = {count}")
