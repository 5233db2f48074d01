"""Measure what one network returns of pictures: reconstruction, DDIM inversion and back, fusion at T, prompts."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.bench.metrics import psnr
from interp_lib.dreammover.ddim import add_noise, ddim_step, invert
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.dreammover.spectrum import high_frequency_energy
from interp_lib.models import ImageModel
from interp_lib.pairs import load_pair
from interp_lib.types import Pair

SIZE = 128
PAPER = 30  # the paper's T, of 50 steps
Figure = tuple[float, float, int]  # mean, standard deviation and number of pairs
Figures = dict[str, Figure]


def figure(values: Iterable[float] | Tensor) -> Figure:
    """Summarise one value a pair."""
    values = torch.as_tensor(list(values), dtype=torch.float64)
    return float(values.mean()), float(values.std()) if len(values) > 1 else 0.0, len(values)


def held_out_photographs(size: int = SIZE) -> Tensor:
    """Return centre squares of photographs in no training picture, and the motorcycle pair: `[N,3,size,size]`."""
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


def latent_flows(model: ImageModel, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the true flows on the latents' grid, each cell with the vector of the pixel at its centre."""
    f = model.vae_factor
    first, second = (F.interpolate(x, scale_factor=1 / f, mode="nearest-exact") / f for x in (pair.flow01, pair.flow10))
    return first.to(model.device), second.to(model.device)


@torch.no_grad()
def measure_pictures(model: ImageModel, pairs: list[Pair]) -> Figures:
    """Measure DDIM inversion to T = 30 and back against the autoencoder's own reconstruction, photographs, prompts, and
    the high-frequency energy that two-level fusion retains and direct fusion loses."""
    photographs = held_out_photographs()
    images = torch.cat([pair.image0 for pair in pairs])
    returned = psnr(model.decode(model.encode(photographs)).cpu(), photographs)
    ratios = [energy_ratio(model, pair) for pair in tqdm(pairs, desc="fusion")]
    right, wrong = prompt_errors(model, pairs)
    return {
        "photographs: autoencoder, PSNR": figure(returned),
        "photographs: round trip, PSNR": figure(round_trip(model, photographs)),
        "world: round trip, PSNR": figure(torch.cat([round_trip(model, part) for part in images.split(16)])),
        "world: two-level above direct fusion in high-frequency energy": figure(100.0 * (r > 1) for r in ratios),
        "world: error of eps with the right caption, of that without": figure([right]),
        "world: error of eps with a wrong caption, of that without": figure([wrong]),
    }


def round_trip(model: ImageModel, images: Tensor, *, inversion_steps: int = PAPER) -> Tensor:
    """Invert to `inversion_steps` of 50 and come back: PSNR in dB against the autoencoder's reconstruction, `[N]`."""
    inversion = invert(model, images, inversion_steps=inversion_steps, preset="released", progress=False)
    latents, context = inversion.latents[-1], model.embed_text("")
    times = inversion.timesteps.flip(0).tolist()
    for t, below in zip(times, [*times[1:], 0], strict=True):
        noise = model.predict_noise(latents, t, context)
        latents = ddim_step(latents, noise, model.alpha_bar(t), model.alpha_bar(below))
    return psnr(model.decode(latents).cpu(), model.decode(inversion.latents[0]).cpu())


def energy_ratio(model: ImageModel, pair: Pair) -> float:
    """Return the high-frequency energy of the fused z_T at T = 30, two-level over direct."""
    inversion = invert(model, torch.cat([pair.image0, pair.image1]), inversion_steps=PAPER, progress=False)
    flows = latent_flows(model, pair)
    ends = (inversion.clean[:1], inversion.clean[1:], inversion.noise[:1], inversion.noise[1:])
    two_level = fuse_two_level(*ends, *flows, 0.5, inversion.alpha_bar)[0]
    direct = fuse_direct(*inversion.latents[-1].split(1), *flows, 0.5)
    return float(high_frequency_energy(two_level) / high_frequency_energy(direct))


def prompt_errors(model: ImageModel, pairs: list[Pair]) -> tuple[float, float]:
    """Return the error of eps at t = 500 with the right caption and with another pair's, over that without one."""
    clean, generator = model.encode(torch.cat([p.image0 for p in pairs])), torch.Generator().manual_seed(0)
    noise, level = torch.randn(clean.shape, generator=generator).to(clean), model.alpha_bar(500)

    def error(prompts: list[str]) -> float:
        noisy = add_noise(clean, noise, level)
        return float(F.mse_loss(model.predict_noise(noisy, 500, model.embed_text(prompts)), noise))

    captions = [p.caption for p in pairs]
    none = error([""] * len(captions))
    return error(captions) / none, error(captions[1:] + captions[:1]) / none
