"""Is the embedded image model good enough to mean something? Every figure of its model card is measured here, on held-
out data.

`python -m experiments.train.quality` prints the table; nothing here looks at a training seed (they start at a million).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.bench.held_out import world_pairs
from interp_lib.bench.metrics import end_point_error, pck, psnr, resize_flow
from interp_lib.dreammover.classical import patch_features
from interp_lib.dreammover.ddim import add_noise, ddim_step, invert
from interp_lib.dreammover.features import diffusion_features
from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.spectrum import high_frequency_energy
from interp_lib.models import ImageModel, load_image_model, randomly_initialised
from interp_lib.pairs import load_pair
from interp_lib.types import Pair

SIZE = 128
Flow = Callable[[Pair], Tensor]


def held_out_photographs(size: int = SIZE) -> Tensor:
    """Centre squares of photographs that no training picture contains, and the motorcycle pair: `[N,3,size,size]`."""
    from skimage import data

    images = []
    for name in ("astronaut", "retina", "cell"):
        pixels = np.atleast_3d(getattr(data, name)())[..., :3]
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().expand(3, -1, -1) / 255
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        square = image[None, :, top : top + side, left : left + side]
        images.append(F.interpolate(square, size=(size, size), mode="bilinear", antialias=True, align_corners=False))
    pair = load_pair("motorcycle", size=size)
    return torch.cat([*images, pair.image0, pair.image1]).clamp(0, 1)


def autoencoder_psnr(model: ImageModel, images: Tensor) -> Tensor:
    """PSNR in dB of decode(encode(x)) against x, `[N]`."""
    return psnr(model.decode(model.encode(images)), images)


@torch.no_grad()
def round_trip(model: ImageModel, images: Tensor, *, steps: int = 50, inversion_steps: int = 30) -> Tensor:
    """DDIM inversion to `inversion_steps` and back, PSNR in dB against the autoencoder's own reconstruction, `[N]`."""
    inversion = invert(model, images, steps=steps, inversion_steps=inversion_steps, preset="released", progress=False)
    latents, context = inversion.latents[-1], model.embed_text("")
    times = inversion.timesteps.flip(0).tolist()
    for t, below in zip(times, [*times[1:], 0], strict=True):
        noise = model.predict_noise(latents, t, context)
        latents = ddim_step(latents, noise, model.alpha_bar(t), model.alpha_bar(below))
    return psnr(model.decode(latents), model.decode(inversion.latents[0]))


def feature_flow(model: ImageModel, **how: int) -> Flow:
    """The paper's estimator: arg-max cosine over the features of the pair, on the latent grid."""

    def flow(pair: Pair) -> Tensor:
        images = torch.cat([pair.image0, pair.image1])
        features = diffusion_features(model, images, progress=False, **how)
        height, width = (side // model.vae_factor for side in images.shape[-2:])
        return match_features(features[:1], features[1:], size=(height, width))

    return flow


def patch_flow(*, stride: int) -> Flow:
    """Raw patches in the place of features, on cells of `stride` pixels."""
    return lambda pair: match_features(*(patch_features(x, stride=stride) for x in (pair.image0, pair.image1)))


def flow_pck(flow: Flow, pairs: list[Pair], *, name: str = "") -> Tensor:
    """PCK@0.1 of each pair on actor pixels visible in both images, `[len(pairs)]`."""
    shares = []
    for pair in tqdm(pairs, desc=f"flow {name}"):
        estimate = resize_flow(flow(pair), tuple(pair.image0.shape[-2:]))
        shares.append(pck(estimate, pair.flow01, pair.visible01 & pair.actor0))
    return torch.tensor(shares)


@torch.no_grad()
def fusion_energies(model: ImageModel, pairs: list[Pair], *, delta: float = 0.5) -> Tensor:
    """High-frequency energy of the fused z_T, two-level over direct, `[len(pairs)]`: above 1 where two-level keeps
    more."""
    ratios = []
    for pair in tqdm(pairs, desc="fusion"):
        inversion = invert(model, torch.cat([pair.image0, pair.image1]), progress=False)
        features = diffusion_features(model, None, inversion=inversion, progress=False)
        size = tuple(inversion.clean.shape[-2:])
        flows = [match_features(features[a : a + 1], features[b : b + 1], size=size) for a, b in ((0, 1), (1, 0))]
        ends = (inversion.clean[:1], inversion.clean[1:], inversion.noise[:1], inversion.noise[1:])
        two_level = fuse_two_level(*ends, *flows, delta, inversion.alpha_bar)[0]
        direct = fuse_direct(*inversion.latents[-1].split(1), *flows, delta)
        ratios.append(high_frequency_energy(two_level) / high_frequency_energy(direct))
    return torch.cat(ratios)


@torch.no_grad()
def prompt_gain(model: ImageModel, pairs: list[Pair]) -> tuple[float, float]:
    """Does a caption tell the network something? eps-MSE at t=500 with the right caption and with another scene's, over
    that without."""
    images = torch.cat([p.image0 for p in pairs])
    captions = [p.caption for p in pairs]
    clean, generator = model.encode(images), torch.Generator().manual_seed(0)
    noise, level = torch.randn(clean.shape, generator=generator).to(clean), model.alpha_bar(500)

    def error(prompts: list[str]) -> float:
        return float(
            F.mse_loss(model.predict_noise(add_noise(clean, noise, level), 500, model.embed_text(prompts)), noise)
        )

    none = error([""] * len(captions))
    return error(captions) / none, error(captions[1:] + captions[:1]) / none


def disparity_error(flow: Flow, *, size: int = SIZE) -> float:
    """Median end-point error in pixels on the motorcycle pair, over pixels with a true disparity that both images
    show."""
    pair = load_pair("motorcycle", size=size)
    estimate = resize_flow(flow(pair), tuple(pair.image0.shape[-2:]))
    return float(end_point_error(estimate, pair.flow01)[pair.visible01].median())


def round_trip_with_lora(model: ImageModel, pair: Pair, *, seed: int = 0) -> Tensor:
    """`round_trip` of a pair's two images with a LoRA of 80 steps fitted to it, `[2]`."""
    images = torch.cat([pair.image0, pair.image1])
    with fit_lora(model, images, seed=seed, progress=False):
        return round_trip(model, images)


def measure_flow(model: ImageModel, *, pairs: int = 200) -> dict[str, float]:
    """PCK of the trained, the untrained and the patch estimator on `pairs` hard pairs, in per cent; the margins."""
    hard = world_pairs(pairs, hard=True)
    flows = {"trained": feature_flow(model), "raw patches": patch_flow(stride=model.vae_factor)}
    flows["untrained"] = feature_flow(randomly_initialised(model))
    values = {f"PCK@0.1 hard, {name}": _mean_pck(flow, hard, f"hard, {name}") for name, flow in flows.items()}
    values["pairs of the hard flow rows"] = pairs
    for other in ("untrained", "raw patches"):
        values[f"trained above {other}"] = values["PCK@0.1 hard, trained"] - values[f"PCK@0.1 hard, {other}"]
    return values


def measure_rest(model: ImageModel, *, pairs: int = 60) -> dict[str, float]:
    """The other rows, on a smaller set: pictures, easy pairs, other blocks and sizes, fusion, prompts, motorcycle."""
    hard, easy = world_pairs(pairs, hard=True), world_pairs(pairs, hard=False)
    large = world_pairs(pairs // 6, hard=True, size=2 * SIZE)
    world = torch.cat([p.image0 for p in hard[:32]])
    photos, motorcycle = held_out_photographs(), load_pair("motorcycle", size=SIZE)
    trained, patches = feature_flow(model), patch_flow(stride=model.vae_factor)
    right, wrong = prompt_gain(model, hard[:32])
    return {
        "autoencoder PSNR, world": float(autoencoder_psnr(model, world).mean()),
        "autoencoder PSNR, photographs": float(autoencoder_psnr(model, photos).mean()),
        "round trip, world": float(round_trip(model, world).mean()),
        "round trip, photographs": float(round_trip(model, photos).mean()),
        "round trip, motorcycle with LoRA": float(round_trip_with_lora(model, motorcycle).mean()),
        "PCK@0.1 hard, third up-block": _mean_pck(feature_flow(model, block=2), hard, "hard, third up-block"),
        "PCK@0.1 hard, trained, 256 px": _mean_pck(trained, large, "hard, 256 px"),
        "PCK@0.1 easy, trained": _mean_pck(trained, easy, "easy, trained"),
        "PCK@0.1 easy, untrained": _mean_pck(feature_flow(randomly_initialised(model)), easy, "easy, untrained"),
        "PCK@0.1 easy, raw patches": _mean_pck(patches, easy, "easy, raw patches"),
        "two-level above direct": 100 * float((fusion_energies(model, hard) > 1).float().mean()),
        "median EPE motorcycle, trained": disparity_error(trained),
        "median EPE motorcycle, third up-block": disparity_error(feature_flow(model, block=2)),
        "median EPE motorcycle, raw patches": disparity_error(patches),
        "median EPE motorcycle, zero flow": disparity_error(lambda pair: torch.zeros_like(pair.flow01)),
        "eps error, right caption": right,
        "eps error, wrong caption": wrong,
        "pairs of the other rows": pairs,
    }


def _mean_pck(flow: Flow, pairs: list[Pair], name: str) -> float:
    return 100 * float(flow_pck(flow, pairs, name=name).mean())


if __name__ == "__main__":
    embedded = load_image_model()
    for row, number in (measure_rest(embedded) | measure_flow(embedded)).items():
        print(f"{row:40s} {number:8.3f}")
