"""Ways to fuse the two latents of a pair, over the noise step T of the fusion: what the frame half-way is worth.

The first six held-out world pairs, no LoRA, at the model's own size; strategy: "direct" (Eq. 6) or the two levels of
Eq. 7 and 8 as "high/low"; flow: "features" of `feature_block`, and at T = 14 also "true" and "none".
psnr: against the true frame in dB, on moving pixels. energy: high-frequency energy over the mean of the two inputs',
these as the autoencoder returns them. spectrum: RMS difference in dB between the frame's power in ten rings of its
spectrum and that of the true frame, as the autoencoder returns it. noise: variance of the fused eps over the
endpoints'. References, once a pair: the cross-dissolve, and the true frame as the autoencoder returns it.
"""

import math

import torch
from torch import Tensor

from interp_lib.bench.datasets.world import world_pairs
from interp_lib.bench.metrics import moving_pixels, psnr, resize_flow
from interp_lib.dreammover.ddim import Inversion, invert
from interp_lib.dreammover.features import estimate_flow, feature_block
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level, fusion_metrics, time_weighted_fusion
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.dreammover.spectrum import high_frequency_energy, spectrum
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Pair

VERSION = 1
MODEL = "image"
STEPS = (10, 14, 20, 30, 50)
LEVELS = [(high, low) for high in ("average", "wta") for low in ("average", "wta")]
ITEMS = [{"seed": s, "inversion_steps": t, "flow": "features"} for s in range(6) for t in STEPS]
ITEMS += [{"seed": s, "inversion_steps": 14, "flow": f} for s in range(6) for f in ("true", "none")]


def measure(model: ImageModel, *, seed: int, inversion_steps: int, flow: str) -> list[dict]:
    pair = world_pairs(1, first=seed, size=model.native_size, between=1)[0]
    inversion = invert(model, torch.cat([pair.image0, pair.image1]), inversion_steps=inversion_steps, progress=False)
    flows = _flows(model, pair, inversion, flow)
    starts, noise = fused_starts(inversion, *flows)
    *_, latents = denoise_between(model, inversion, torch.cat(list(starts.values())))
    frames = model.decode(latents).cpu()
    made = dict(zip(starts, frames.split(1), strict=True))
    returned = model.decode(model.encode(torch.cat([pair.image0, pair.frames[1:2], pair.image1]))).cpu()
    if (inversion_steps, flow) == (STEPS[0], "features"):
        made |= {"dissolve": (pair.image0 + pair.image1) / 2, "autoencoder": returned[1:2]}
    return [{"strategy": s, **quality(x, pair, returned), "noise": noise.get(s)} for s, x in made.items()]


def _flows(model: ImageModel, pair: Pair, inversion: Inversion, flow: str) -> tuple[Tensor, Tensor]:
    latents = inversion.clean
    if flow == "features":
        return estimate_flow(model, inversion, block=feature_block(model, model.native_size))
    true = (resize_flow(f, latents.shape[-2:]).to(latents) for f in (pair.flow01, pair.flow10))
    first, second = (f if flow == "true" else torch.zeros_like(f) for f in true)
    return first, second


def fused_starts(inversion: Inversion, flow01: Tensor, flow10: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
    """z_T half-way [1,C,h,w] by every strategy, and the variance of its noise over that of the endpoints'."""
    z, a = inversion.latents[-1], inversion.alpha_bar
    pair = (*inversion.clean.split(1), *inversion.noise.split(1), flow01, flow10, 0.5, a)
    starts = {"direct": fuse_direct(*z.split(1), flow01, flow10, 0.5)}
    metrics = fusion_metrics(*z.split(1), flow01, flow10)
    fused = {"direct": time_weighted_fusion(*inversion.noise.split(1), flow01, flow10, 0.5, *metrics)}
    for high, low in LEVELS:
        starts[f"{high}/{low}"], _, fused[f"{high}/{low}"] = fuse_two_level(*pair, high=high, low=low)
    return starts, {name: float(eps.var() / inversion.noise.var()) for name, eps in fused.items()}


def quality(frame: Tensor, pair: Pair, returned: Tensor) -> dict[str, float]:
    """The measures of a frame [1,3,H,W]; returned: image 0, the true frame and image 1 through the autoencoder."""
    truth = pair.frames[1:2]
    inputs = high_frequency_energy(returned[[0, 2]]).mean()
    return {
        "psnr": float(psnr(frame, truth, moving_pixels(pair, truth))),
        "energy": float(high_frequency_energy(frame) / inputs),
        "spectrum": float((rings(frame) - rings(returned[1:2])).square().mean().sqrt()),
    }


def rings(image: Tensor, count: int = 10) -> Tensor:
    """Mean power in dB of an image [1,3,H,W] in rings of its spectrum, evenly spaced in log frequency, [count]."""
    power = spectrum(image).square().mean((0, 1))
    height, width = power.shape
    y, x = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    radius, least = torch.hypot(x / width, y / height), 1 / min(height, width)  # in periods per pixel
    ring = ((radius / least).log() / math.log(0.5 / least) * count).floor()  # the zero frequency falls into none
    return torch.stack([power[ring == k].mean() for k in range(count)]).log10() * 10
