"""Deterministic DDIM in both directions (paper section 3.1, Eq. 2 and 3) and the inversion of the image pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_choice, check_int
from interp_lib.images import as_images
from interp_lib.models.image_model import ImageModel, TextContext, check_model

PRESETS = ("paper", "released")  # what the paper says, and what its released code does
INVERSION_STEPS = 30  # the paper's T, of 50 steps


@dataclass
class Inversion:
    """The path from clean latents up to noise step T.

    latents: inversion_steps + 1 tensors [N,C,h,w], the clean ones first. timesteps: [inversion_steps] int64, ascending;
    timesteps[k-1] belongs to latents[k]. clean: z_{T->0} and noise: eps, both [N,C,h,w], with
    latents[-1] = sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise, alpha_bar being that of T. steps: of the schedule.
    """

    latents: list[Tensor]
    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    alpha_bar: float
    steps: int


def timesteps(model: ImageModel, steps: int = 50) -> Tensor:
    """Return the schedule, ascending [steps] int64: 1, 21, ..., 981 for 50 steps of a model trained on 1000.

    Source: SD 1.5's DDIM ("leading" spacing, offset 1). Raises ValueError unless 1 <= steps < the training steps.
    """
    check_model(model)
    trained = model.scheduler.config.num_train_timesteps
    steps = check_int("steps", steps, 1, trained - 1)
    return 1 + trained // steps * torch.arange(steps)


def of_fifty(step: int, steps: int) -> int:
    """Return the step of a schedule of `steps` steps that corresponds to `step` of 50, at least 1."""
    return max(1, round(step / 50 * steps))


def choose_inversion_steps(model: ImageModel, inversion_steps: int | None, steps: int) -> int:
    """Return T as a number of steps of the schedule; None is the model's recommendation, else the paper's 30 of 50.

    A recommendation is stated for 50 steps and scales with the schedule. Raises ValueError unless 1 <= T <= steps.
    """
    if inversion_steps is None:
        recommended = model.settings.get("inversion_steps", INVERSION_STEPS)
        return of_fifty(check_int("inversion_steps in the model's settings.json", recommended, 1, 50), steps)
    return check_int("inversion_steps", inversion_steps, 1, steps, "steps")


# Eq. 3
def predict_clean(latents: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """Return z_{t->0} = (z_t - sqrt(1 - ab_t) eps) / sqrt(ab_t), the inverse of `add_noise`."""
    return (latents - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5


# Eq. 2, and Eq. 8 with the fused parts
def add_noise(clean: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """Return z_s = sqrt(ab_s) z_{t->0} + sqrt(1 - ab_s) eps."""
    return alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise


# Eq. 3 into Eq. 2
def ddim_step(latents: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float) -> Tensor:
    """Go from noise level t to s, up or down; the step from s to t with the same noise undoes it."""
    return add_noise(predict_clean(latents, noise, alpha_bar), noise, alpha_bar_next)


@torch.no_grad()
def invert(
    model: ImageModel,
    images: Tensor | Sequence[Tensor],
    *,
    steps: int = 50,
    inversion_steps: int | None = None,
    prompt: str = "",
    preset: str = "paper",
    progress: bool = True,
) -> Inversion:
    """Invert images [N,3,H,W] in [0,1], all in one batch, up to noise step T = `inversion_steps` of `steps`.

    Source: section 3.2 and Eq. 3. Step k goes to t_k with eps(z_{k-1}, t_k), the label of the *next* timestep.
    inversion_steps: None is the model's recommendation, else the paper's 30 of 50. preset: "paper" takes the noise and
    the clean latents from one more call, eps(z_T, T); "released" from the last call of the inversion.
    U-Net calls: inversion_steps, plus one for "paper".
    Raises ValueError for an unknown preset, a count out of range, a prompt that is no text and images of a wrong size.
    """
    check_choice("preset", preset, PRESETS)
    schedule = timesteps(model, steps)
    inversion_steps = choose_inversion_steps(model, inversion_steps, len(schedule))
    with model.lock:
        context = model.embed_text(prompt)
        z = model.encode(image_batch(images))
        inversion = run_inversion(model, z, context, schedule[:inversion_steps], steps=len(schedule), progress=progress)
        if preset == "paper":
            z = inversion.latents[-1]
            inversion.noise = model.predict_noise(z, int(schedule[inversion_steps - 1]), context)
            inversion.clean = predict_clean(z, inversion.noise, inversion.alpha_bar)
    return inversion


@torch.no_grad()
def run_inversion(
    model: ImageModel, latents: Tensor, context: TextContext, schedule: Tensor, *, steps: int, progress: bool = False
) -> Inversion:
    """Invert clean latents along `schedule`; clean and noise are those of its last call (the released rule)."""
    path, state = [latents], (latents, latents, latents)
    states = invert_along(model, latents, context, schedule.tolist())
    for state in tqdm(states, total=len(schedule), desc="inversion", disable=not progress):
        path.append(state[0])
    _, clean, noise = state
    return Inversion(path, clean, noise, schedule, model.alpha_bar(schedule[-1]), steps)


@torch.no_grad()
def invert_along(
    model: ImageModel, latents: Tensor, context: TextContext, schedule: Sequence[int], start: int = 0
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
    """Return [N,3,H,W] from a batch, one image or a sequence of images of one size."""
    if isinstance(images, Tensor) or not isinstance(images, Sequence):
        return as_images(images, name="images")
    batch = [as_images(x, name=f"image {k}") for k, x in enumerate(images)]
    sizes = {tuple(x.shape[-2:]) for x in batch}
    if len(sizes) != 1:
        raise ValueError(f"images have {len(sizes)} different sizes: bring them to one size with fit_images first.")
    return torch.cat(batch)
