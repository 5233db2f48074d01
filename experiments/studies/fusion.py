"""How to fuse the latents of a world pair at t = 0.5: the quality of the frame, and where high frequencies go."""

import math

import torch
from torch import Tensor

from experiments.studies import study
from interp_lib.bench.datasets.world import world_pairs
from interp_lib.bench.metrics import moving_pixels, psnr, resize_flow
from interp_lib.dreammover.ddim import Inversion, add_noise, invert
from interp_lib.dreammover.features import estimate_flow, feature_block
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level, fusion_metrics, time_weighted_fusion
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.dreammover.spectrum import high_frequency_energy, spectrum
from interp_lib.models.image_model import ImageModel
from interp_lib.pairs import load_pair
from interp_lib.types import Pair

Flows = tuple[Tensor, Tensor]
Fused = dict[str, tuple[Tensor, Tensor, Tensor]]
STEPS = (10, 14, 20, 30, 50)
ITEMS = [{"seed": s, "inversion_steps": t, "flow": "features"} for s in range(6) for t in STEPS]
ITEMS += [{"seed": s, "inversion_steps": 14, "flow": f} for s in range(6) for f in ("true", "none")]
PAIRS = [*(f"world:{seed}" for seed in range(8)), "motorcycle"]
CENTRES = {"area": 1 / 4, "side": 1 / 16}  # "the centre 1/4", as a share of the area


def own_inversion(model: ImageModel, pair: Pair, inversion_steps: int) -> Inversion:
    return invert(model, torch.cat([pair.image0, pair.image1]), inversion_steps=inversion_steps, progress=False)


def own_flow(model: ImageModel, inversion: Inversion) -> Flows:
    return estimate_flow(model, inversion, block=feature_block(model, model.native_size))


def fuse_all(inversion: Inversion, flow01: Tensor, flow10: Tensor) -> Fused:
    """Return z_T at t = 0.5, its clean and its noise part [1,C,h,w] by strategy: "direct", or "high/low" levels."""
    clean, noise, ends = inversion.clean.split(1), inversion.noise.split(1), inversion.latents[-1].split(1)
    how = (flow01, flow10, 0.5)
    metrics = fusion_metrics(*ends, flow01, flow10)  # direct fusion is linear once M is given
    parts = [time_weighted_fusion(*part, *how, *metrics) for part in (clean, noise)]
    fused = {"direct": (fuse_direct(*ends, *how), *parts)}
    for high in ("average", "wta"):
        for low in ("average", "wta"):
            name = f"{high}/{low}"
            fused[name] = fuse_two_level(*clean, *noise, *how, inversion.alpha_bar, high=high, low=low)
    return fused


@study("image", ITEMS)
def fusion(model: ImageModel, *, seed: int, inversion_steps: int, flow: str) -> list[dict]:
    """Ways to fuse the two latents of a pair, over the noise step T of the fusion: what the frame half-way is worth.

    The first six held-out world pairs, no LoRA, at the model's own size; strategy: "direct" (Eq. 6) or the two levels
    of Eq. 7 and 8 as "high/low"; flow: "features" of `feature_block`, and at T = 14 also "true" and "none". psnr:
    against the true frame in dB, on moving pixels. energy: high-frequency energy over the mean of the two inputs',
    these as the autoencoder returns them. spectrum: RMS difference in dB between the frame's power in ten rings of its
    spectrum and that of the true frame, as the autoencoder returns it. noise: variance of the fused eps over the
    endpoints'. References, once a pair: the cross-dissolve, and the true frame as the autoencoder returns it.
    """
    pair = world_pairs(1, first=seed, size=model.native_size, between=1)[0]
    inversion = own_inversion(model, pair, inversion_steps)
    if flow == "features":
        flows = own_flow(model, inversion)
    else:
        true = (resize_flow(f, inversion.clean.shape[-2:]).to(inversion.clean) for f in (pair.flow01, pair.flow10))
        flows = [f if flow == "true" else torch.zeros_like(f) for f in true]
    fused = fuse_all(inversion, *flows)
    *_, latents = denoise_between(model, inversion, torch.cat([z for z, _, _ in fused.values()]))
    frames = dict(zip(fused, model.decode(latents).cpu().split(1), strict=True))
    variance = {name: float(eps.var() / inversion.noise.var()) for name, (_, _, eps) in fused.items()}
    returned = model.decode(model.encode(torch.cat([pair.image0, pair.frames[1:2], pair.image1]))).cpu()
    if (inversion_steps, flow) == (STEPS[0], "features"):
        frames |= {"dissolve": (pair.image0 + pair.image1) / 2, "autoencoder": returned[1:2]}
    return [
        {"strategy": name, **quality(frame, pair, returned), "noise": variance.get(name)}
        for name, frame in frames.items()
    ]


def quality(frame: Tensor, pair: Pair, returned: Tensor) -> dict[str, float]:
    """Measure a frame [1,3,H,W]; returned: image 0, the true frame and image 1 through the autoencoder."""
    truth = pair.frames[1:2]
    return {
        "psnr": float(psnr(frame, truth, moving_pixels(pair, truth))),
        "energy": float(high_frequency_energy(frame) / high_frequency_energy(returned[[0, 2]]).mean()),
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


@study("image", [{"pair": pair, "inversion_steps": steps} for pair in PAIRS for steps in (14, 30)])
def frequency(model: ImageModel, *, pair: str, inversion_steps: int) -> list[dict]:
    """Where high frequencies go between an inverted pair and its middle frame, for four ways to fuse at noise step T.

    The first eight held-out world pairs and the motorcycle photographs at the model's own size, the frame half-way, no
    LoRA, features from `feature_block`. way: "direct" (Eq. 6), "two-level" (Eq. 8), "averaged" (two-level, the noise
    averaged too), "rescaled" (that noise brought back to the variance of the inputs' noise); "inputs" is the mean of
    both ends. area, side: energy outside the centre, a quarter of the area or of the side. what: "latent" on its way
    down, every other step, and its parts "clean" and "noise" at T, in units of the inputs' z_0; "image", the decoded
    frame, in units of the input images. variance: of the noise part. detail: correlation of a frame with the true one,
    outside the centre of the area. References among the images: "dissolve", "truth", "autoencoder" (its detail is the
    true frame's, through it).
    """
    source = load_pair(pair, size=model.native_size)
    images, inversion = torch.cat([source.image0, source.image1]), own_inversion(model, source, inversion_steps)
    fused = with_rescaled_noise(inversion, fuse_all(inversion, *own_flow(model, inversion)))
    path = list(denoise_between(model, inversion, torch.cat([z for z, _, _ in fused.values()])))
    unit = _energy(inversion.latents[0]).mean(1, keepdim=True)
    rows = [_row("inputs", "clean", inversion_steps, _energy(inversion.clean) / unit)]
    for way, eps in {"inputs": inversion.noise, **{way: eps for way, (_, _, eps) in fused.items()}}.items():
        rows.append(_row(way, "noise", inversion_steps, _energy(eps) / unit) | {"variance": float(eps.var())})
    for step in range(inversion_steps, -1, -2):
        rows.append(_row("inputs", "latent", step, _energy(inversion.latents[step]) / unit))
        energy = _energy(path[inversion_steps - step]) / unit
        rows += [_row(way, "latent", step, energy[:, [k]]) for k, way in enumerate(fused)]
    frames = dict(zip(fused, model.decode(path[-1]).split(1), strict=True))
    frames |= {"dissolve": images.mean(0, keepdim=True), "autoencoder": model.decode(inversion.latents[0])}
    detail = {}
    if source.frames is not None:
        frames["truth"] = truth = source.frames[[len(source.frames) // 2]]
        compared = frames | {"autoencoder": model.decode(model.encode(truth))}
        detail = {way: {"detail": fine_agreement(frame, truth)} for way, frame in compared.items()}
    unit = _energy(images).mean(1, keepdim=True)
    return rows + [_row(way, "image", 0, _energy(frame) / unit) | detail.get(way, {}) for way, frame in frames.items()]


def with_rescaled_noise(inversion: Inversion, fused: Fused) -> Fused:
    """Return the four ways of `frequency`; "rescaled" is "averaged" with its noise at the variance of the inputs'."""
    latent, clean, averaged = fused["average/average"]
    rescaled = averaged * inversion.noise.std() / averaged.std()
    return {
        "direct": fused["direct"],
        "two-level": fused["average/wta"],
        "averaged": (latent, clean, averaged),
        "rescaled": (add_noise(clean, rescaled, inversion.alpha_bar), clean, rescaled),
    }


def _energy(x: Tensor) -> Tensor:
    """By both readings of the centre, [2,N]."""
    return torch.stack([high_frequency_energy(x.cpu(), centre=centre) for centre in CENTRES.values()])


def _row(way: str, what: str, step: int, energy: Tensor) -> dict:
    return {"way": way, "what": what, "step": step, **dict(zip(CENTRES, energy.mean(1).tolist(), strict=True))}


def fine_agreement(frame: Tensor, truth: Tensor) -> float:
    """Correlation, in [-1, 1], of what two frames [1,3,H,W] have outside the centre of the area."""
    transforms = torch.fft.fftshift(torch.fft.fft2(torch.cat([frame.cpu(), truth])), dim=(-2, -1))
    sides = [(n // 2 - round(n / 2) // 2, round(n / 2)) for n in frame.shape[2:]]
    rows, columns = (slice(first, first + side) for first, side in sides)
    transforms[..., rows, columns] = 0
    made, true = transforms.flatten(1)
    return float((made * true.conj()).real.sum() / (made.abs().square().sum() * true.abs().square().sum()).sqrt())
