"""Where high frequencies go between an inverted pair and its middle frame, for four ways to fuse at noise step T.

The first eight held-out world pairs and the motorcycle photographs at the model's own size, the frame half-way, no
LoRA, features from `feature_block`. way: "direct" (Eq. 6), "two-level" (Eq. 8), "averaged" (two-level, the noise
averaged too), "rescaled" (that noise brought back to the variance of the inputs' noise); "inputs" is the mean of both
ends. area, side: energy outside the centre, a quarter of the area or of the side. what: "latent" on its way down, every
other step, and its parts "clean" and "noise" at T, in units of the inputs' z_0; "image", the decoded frame, in units of
the input images. variance: of the noise part. detail: correlation of a frame with the true one, outside the centre of
the area. References among the images: "dissolve", "truth", "autoencoder" (its detail is the true frame's, through it).
"""

import torch
from torch import Tensor

from interp_lib.dreammover.ddim import Inversion, add_noise, invert
from interp_lib.dreammover.features import estimate_flow, feature_block
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level, fusion_metrics, time_weighted_fusion
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.dreammover.spectrum import high_frequency_energy
from interp_lib.models.image_model import ImageModel
from interp_lib.pairs import load_pair

VERSION = 1
MODEL = "image"
PAIRS = [*(f"world:{seed}" for seed in range(8)), "motorcycle"]
ITEMS = [{"pair": pair, "inversion_steps": inversion_steps} for pair in PAIRS for inversion_steps in (14, 30)]
CENTRES = {"area": 1 / 4, "side": 1 / 16}  # "the centre 1/4", as a share of the area


def measure(model: ImageModel, *, pair: str, inversion_steps: int) -> list[dict]:
    source = load_pair(pair, size=model.native_size)
    images = torch.cat([source.image0, source.image1])
    inversion = invert(model, images, inversion_steps=inversion_steps, progress=False)
    flows = estimate_flow(model, inversion, block=feature_block(model, model.native_size))
    noise = fused_noise(inversion, *flows)
    path = list(denoise_between(model, inversion, starts(inversion, *flows, noise["rescaled"])))

    unit = _energy(inversion.latents[0]).mean(1, keepdim=True)
    rows = [_row("inputs", "clean", inversion_steps, _energy(inversion.clean) / unit)]
    rows += [
        _row(way, "noise", inversion_steps, _energy(eps) / unit) | {"variance": float(eps.var())}
        for way, eps in {"inputs": inversion.noise, **noise}.items()
    ]
    for step in range(inversion_steps, -1, -2):
        rows.append(_row("inputs", "latent", step, _energy(inversion.latents[step]) / unit))
        found = _energy(path[inversion_steps - step]) / unit
        rows += [_row(way, "latent", step, found[:, [k]]) for k, way in enumerate(noise)]

    frames = dict(zip(noise, model.decode(path[-1]).split(1), strict=True))
    frames |= {"dissolve": images.mean(0, keepdim=True), "autoencoder": model.decode(inversion.latents[0])}
    detail = {}
    if source.frames is not None:
        frames["truth"] = truth = source.frames[[len(source.frames) // 2]]
        detail = {way: {"detail": fine_agreement(frame, truth)} for way, frame in frames.items() if len(frame) == 1}
        detail["autoencoder"] = {"detail": fine_agreement(model.decode(model.encode(truth)), truth)}
    unit = _energy(images).mean(1, keepdim=True)
    return rows + [_row(way, "image", 0, _energy(frame) / unit) | detail.get(way, {}) for way, frame in frames.items()]


def fused_noise(inversion: Inversion, flow01: Tensor, flow10: Tensor) -> dict[str, Tensor]:
    """The noise part [1,C,h,w] half-way, by every way."""
    noise, where = inversion.noise.split(1), (flow01, flow10, 0.5)
    pair = (*inversion.clean.split(1), *noise, *where, inversion.alpha_bar)
    averaged = fuse_two_level(*pair, low="average")[2]
    metrics = fusion_metrics(*inversion.latents[-1].split(1), flow01, flow10)  # direct fusion is linear once M is given
    return {
        "direct": time_weighted_fusion(*noise, *where, *metrics),
        "two-level": fuse_two_level(*pair)[2],
        "averaged": averaged,
        "rescaled": averaged * inversion.noise.std() / averaged.std(),
    }


def starts(inversion: Inversion, flow01: Tensor, flow10: Tensor, rescaled: Tensor) -> Tensor:
    """z_T half-way [4,C,h,w] in the order of `fused_noise`."""
    where, a = (flow01, flow10, 0.5), inversion.alpha_bar
    pair = (*inversion.clean.split(1), *inversion.noise.split(1), *where, a)
    two_level, clean, _ = fuse_two_level(*pair)
    averaged = fuse_two_level(*pair, low="average")[0]
    direct = fuse_direct(*inversion.latents[-1].split(1), *where)
    return torch.cat([direct, two_level, averaged, add_noise(clean, rescaled, a)])


def _energy(x: Tensor) -> Tensor:
    """By both readings of the centre, [2,N]."""
    return torch.stack([high_frequency_energy(x.cpu(), centre=centre) for centre in CENTRES.values()])


def _row(way: str, what: str, step: int, energy: Tensor) -> dict:
    return {"way": way, "what": what, "step": step, **dict(zip(CENTRES, energy.mean(1).tolist(), strict=True))}


def fine_agreement(frame: Tensor, truth: Tensor) -> float:
    """Correlation, in [-1, 1], of what two frames [1,3,H,W] have outside the centre of the area."""
    transforms = torch.fft.fftshift(torch.fft.fft2(torch.cat([frame.cpu(), truth])), dim=(-2, -1))
    rows, columns = (
        slice(n // 2 - round(n / 2) // 2, n // 2 - round(n / 2) // 2 + round(n / 2)) for n in frame.shape[2:]
    )
    transforms[..., rows, columns] = 0
    made, true = transforms.flatten(1)
    return float((made * true.conj()).real.sum() / (made.abs().square().sum() * true.abs().square().sum()).sqrt())
