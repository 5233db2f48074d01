"""Deterministic DDIM in both directions (paper section 3.1, Eq. 2 and 3) and the inversion of the image pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_choice, check_int
from interp_lib.images import as_images
from interp_lib.models.image_model import ImageModel, check_model

PRESETS = ("paper", "released")  # what the paper says, and what its released code does


@dataclass
class Inversion:
    """The way from clean latents up to noise step T.

    latents: inversion_steps+1 tensors [N,C,h,w], the clean ones first. timesteps: [inversion_steps] int64, ascending,
    timesteps[k-1] is the one of latents[k]. clean: z_{T->0}, noise: eps, both [N,C,h,w], and latents[-1] =
    sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise with alpha_bar the one at T. steps: of the whole schedule.
    """

    latents: list[Tensor]
    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    alpha_bar: float
    steps: int


def timesteps(model: ImageModel, steps: int = 50) -> Tensor:
    """The schedule, ascending [steps] int64: 1, 21, ..., 981 for 50 steps of a model trained on 1000.

    Source: SD 1.5's DDIM ("leading" spacing, offset 1). Raises ValueError unless 1 <= steps < the training steps, and
    for what is no model.
    """
    check_model(model)
    trained = model.scheduler.config.num_train_timesteps
    steps = check_int("steps", steps, 1, trained - 1)
    return 1 + trained // steps * torch.arange(steps)


def check_inversion_steps(inversion_steps: int, steps: int) -> int:
    """The noise step T as an int; ValueError unless it lies in [1, steps]."""
    inversion_steps = check_int("inversion_steps", inversion_steps, 1)
    if inversion_steps > steps:
        raise ValueError(
            f"inversion_steps={inversion_steps} is beyond steps={steps}: give inversion_steps as well "
            "(the paper's share is 30 of 50)."
        )
    return inversion_steps


def predict_clean(latents: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """z_{t->0} = (z_t - sqrt(1 - ab_t) eps) / sqrt(ab_t). Source: Eq. 3. The inverse of `add_noise`."""
    return (latents - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """z_s = sqrt(ab_s) z_{t->0} + sqrt(1 - ab_s) eps. Source: Eq. 2, and Eq. 8 with the fused parts."""
    return alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise


def ddim_step(latents: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float) -> Tensor:
    """From noise level t to s, up or down. Source: Eq. 3 into Eq. 2. Undone by the step from s to t with this noise."""
    return add_noise(predict_clean(latents, noise, alpha_bar), noise, alpha_bar_next)


@torch.no_grad()
def invert(
    model: ImageModel,
    images: Tensor | Sequence[Tensor],
    *,
    steps: int = 50,
    inversion_steps: int = 30,
    prompt: str = "",
    preset: str = "paper",
    progress: bool = True,
) -> Inversion:
    """DDIM inversion of images [N,3,H,W] in [0,1], all in one batch, up to noise step `inversion_steps` of `steps`.

    Source: section 3.2 and Eq. 3. Step k goes to t_k with eps(z_{k-1}, t_k), the label of the *next* timestep.
    preset: "paper" takes the noise and the clean latents from one more call, eps(z_T, T); "released" from the last
    call of the inversion. U-Net calls: inversion_steps, plus one for "paper".
    Raises ValueError for an unknown preset, a count out of range, a prompt that is no text and images of a wrong size.
    """
    check_choice("preset", preset, PRESETS)
    schedule = timesteps(model, steps)
    inversion_steps = check_inversion_steps(inversion_steps, len(schedule))
    context = model.embed_text(prompt)
    z = model.encode(image_batch(images))
    bar = tqdm(total=inversion_steps, desc="inversion", disable=not progress)
    inversion = run_inversion(model, z, context, schedule[:inversion_steps], steps=len(schedule), bar=bar)
    if preset == "paper":
        z, a = inversion.latents[-1], inversion.alpha_bar
        inversion.noise = model.predict_noise(z, int(schedule[inversion_steps - 1]), context)
        inversion.clean = predict_clean(z, inversion.noise, a)
    return inversion


@torch.no_grad()
def run_inversion(
    model: ImageModel, latents: Tensor, context: Tensor, schedule: Tensor, *, steps: int, bar: tqdm | None = None
) -> Inversion:
    """The inversion from clean latents along `schedule`, clean and noise from its last call (the released rule)."""
    path = [latents]
    state = (latents, latents, latents)
    for state in inversion_steps(model, latents, context, [int(t) for t in schedule]):
        path.append(state[0])
        if bar is not None:
            bar.update()
    if bar is not None:
        bar.close()
    _, clean, noise = state
    return Inversion(path, clean, noise, schedule, model.alpha_bar(schedule[-1]), steps)


@torch.no_grad()
def inversion_steps(
    model: ImageModel, latents: Tensor, context: Tensor, schedule: Sequence[int], start: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (z_t, z_{t->0}, eps) for every t of an ascending schedule; `start` is the timestep of `latents`."""
    a = model.alpha_bar(start)
    for t in schedule:
        noise = model.predict_noise(latents, t, context)
        clean = predict_clean(latents, noise, a)
        a = model.alpha_bar(t)
        latents = add_noise(clean, noise, a)
        yield latents, clean, noise


def image_batch(images: Tensor | Sequence[Tensor]) -> Tensor:
    """[N,3,H,W] from a batch, one image or a sequence of images of one size."""
    if isinstance(images, Tensor) or not isinstance(images, Sequence):
        return as_images(images, name="images")
    batch = [as_images(x, name=f"image {k}") for k, x in enumerate(images)]
    sizes = {tuple(x.shape[-2:]) for x in batch}
    if len(sizes) != 1:
        raise ValueError(f"images have {len(sizes)} different sizes: bring them to one size with fit_images first.")
    return torch.cat(batch)
