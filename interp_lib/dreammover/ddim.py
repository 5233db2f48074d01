"""The deterministic sampler in both directions (paper section 3.1, Eq. 2 and 3) and the inversion of the keyframes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from interp_lib.checks import check_choice, check_int
from interp_lib.images import as_images
from interp_lib.models.image_model import ImageModel, TextContext, check_model
from interp_lib.progress import track

PRESETS = ("paper", "released")  # what the paper says, and what its released code does
SOLVERS = ("ddim", "dpmsolver++")
INVERSION_STEPS, FEATURE_STEP, PAPER_STEPS = 30, 14, 50  # the paper's T and step of the features, of 50 steps


@dataclass
class Inversion:
    """The path from clean latents up to noise step T.

    latents: one tensor [N,C,h,w] per level, the clean ones first. timesteps: int64, ascending; timesteps[k-1] belongs
    to latents[k], the last is T. clean: z_{T->0} and noise: eps, [N,C,h,w], latents[-1] = sqrt(alpha_bar) clean +
    sqrt(1 - alpha_bar) noise, alpha_bar that of T. steps: of the schedule. solver, down: as in `Plan`.
    """

    latents: list[Tensor]
    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    alpha_bar: float
    steps: int
    solver: str = "ddim"
    down: list[int] = field(default_factory=list)

    def levels(self) -> list[tuple[int, int]]:
        """Return the steps of denoising as pairs (t, timestep below it), down to 0."""
        return list(pairwise([*(self.down or self.timesteps.flip(0).tolist()), 0]))

    def select(self, images: list[int]) -> "Inversion":
        """Return the inversion of some of the images, by their numbers."""
        latents = [z[images] for z in self.latents]
        return replace(self, latents=latents, clean=self.clean[images], noise=self.noise[images])


def timesteps(model: ImageModel, steps: int = 50) -> Tensor:
    """Return the schedule, ascending [steps] int64: 1, 21, ..., 981 for 50 steps of a model trained on 1000.

    Source: SD 1.5's DDIM ("leading" spacing, offset 1). Raises ValueError unless 1 <= steps < the training steps.
    """
    check_model(model)
    trained = model.scheduler.config.num_train_timesteps
    steps = check_int("steps", steps, 1, trained - 1)
    return 1 + trained // steps * torch.arange(steps)


def scale_step(step: int, to: int, of: int = PAPER_STEPS) -> int:
    """Return the step of a schedule of `to` steps that corresponds to `step` of `of`, at least 1."""
    return max(1, round(step / of * to))


class Plan(NamedTuple):
    """The noise levels of a run: timesteps up to T, ascending, of a schedule of `steps`, and down, T first.

    strides: how many timesteps each step of the inversion covers. solver: that of denoising, see `interpolate`.
    """

    schedule: Tensor
    strides: list[int]
    down: list[int]
    steps: int
    solver: str


def plan_levels(model: ImageModel, steps: int, inversion_steps: int | None = None, solver: str = "ddim") -> Plan:
    """Choose the noise levels of inversion and denoising up to T = `inversion_steps` of `steps`.

    inversion_steps: None is the model's recommendation, stated for 50 steps, else the paper's 30 of 50.
    "ddim": the first n = T levels of the schedule, both ways. "dpmsolver++": n levels down, at T (k/n)^2, dense where
    the latents change fast (the "quad" spacing of Song et al. 2021, arXiv 2010.02502); up the paper's 50 steps, one by
    one to the level of the features, as the arg-max of Eq. 5 turns any difference into another flow, then in strides.
    Raises ValueError for numbers out of range and an unknown solver.
    """
    schedule = timesteps(model, steps)
    check_choice("solver", solver, SOLVERS)
    steps = len(schedule)
    if inversion_steps is None:
        top = model.settings.get("inversion_steps", INVERSION_STEPS)
        top = check_int("inversion_steps in the model's settings.json", top, 1, PAPER_STEPS)
        n = scale_step(top, steps)
    else:
        n = check_int("inversion_steps", inversion_steps, 1, steps, "steps")
        top = scale_step(n, PAPER_STEPS, steps)
    if solver == "ddim":
        return Plan(schedule[:n], [1] * n, schedule[:n].flip(0).tolist(), steps, solver)
    fifty, rest = timesteps(model, PAPER_STEPS)[:top], max(0, top - FEATURE_STEP)
    up = 2 * n - 1  # strides; less than twice the steps down, which are dearer
    stops = [round(rest * k / up) for k in range(up + 1)]
    strides = [1] * min(FEATURE_STEP, top) + [b - a for a, b in pairwise(stops) if b > a]
    down = {max(1, round(int(fifty[-1]) * (k / n) ** 2)) for k in range(1, n + 1)}
    return Plan(fifty, strides, sorted(down, reverse=True), PAPER_STEPS, solver)


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


# DPM-Solver++(2M): Lu et al. 2022, arXiv 2211.01095, Algorithm 2
def multistep(clean: Tensor, before: Tensor, a: float, a_next: float, a_before: float) -> Tensor:
    """Return what to add to a DDIM step from t to s to make it second order, of the shape of the latents.

    clean, before: z_{t->0} of this step and of the one before; a: their alpha_bar. With lambda = log sqrt(ab/(1-ab)),
    half the log-SNR, and h = lambda_s - lambda_t, it is -sqrt(ab_s) (e^-h - 1) h / (2 h_before) (clean - before).
    """
    now, later, earlier = (0.5 * math.log(x / (1 - x)) for x in (a, a_next, a_before))
    h = later - now
    return -(a_next**0.5) * math.expm1(-h) * h / (2 * (now - earlier)) * (clean - before)


@torch.no_grad()
def invert(
    model: ImageModel,
    images: Tensor | Sequence[Tensor],
    *,
    steps: int = 50,
    inversion_steps: int | None = None,
    prompt: str = "",
    preset: str = "paper",
    solver: str = "ddim",
    progress: bool = True,
) -> Inversion:
    """Invert images [N,3,H,W] in [0,1], all in one batch, up to noise step T = `inversion_steps` of `steps`.

    Source: section 3.2 and Eq. 3. Step k goes to t_k with eps(z_{k-1}, t_k), the label of the *next* timestep.
    inversion_steps, solver: see `plan_levels`. preset: "paper" takes the noise and the clean latents from one more
    call, eps(z_T, T); "released" from the last call of the inversion. U-Net calls: one a level, plus one for "paper".
    Raises ValueError for a preset, solver, count, prompt or image size that cannot be.
    """
    check_choice("preset", preset, PRESETS)
    plan = plan_levels(model, steps, inversion_steps, solver)
    with model.lock:
        context = model.embed_text(prompt)
        inversion = run_inversion(model, model.encode(image_batch(images)), context, plan, progress=progress)
        if preset == "paper":
            z = inversion.latents[-1]
            inversion.noise = model.predict_noise(z, int(plan.schedule[-1]), context)
            inversion.clean = predict_clean(z, inversion.noise, inversion.alpha_bar)
    return inversion


@torch.no_grad()
def run_inversion(
    model: ImageModel,
    latents: Tensor,
    context: TextContext,
    plan: Plan,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> Inversion:
    """Invert clean latents along the plan; clean and noise are those of its last step (the released rule)."""
    path = [latents]
    states = invert_along(model, latents, context, plan.schedule.tolist(), strides=plan.strides, batch_size=batch_size)
    for state in track(states, "inversion", len(plan.strides), shown=progress):
        path.append(state[0])
    _, clean, noise = state
    levels = plan.schedule[torch.tensor(plan.strides).cumsum(0) - 1]
    return Inversion(path, clean, noise, levels, model.alpha_bar(levels[-1]), plan.steps, plan.solver, plan.down)


@torch.no_grad()
def invert_along(
    model: ImageModel,
    latents: Tensor,
    context: TextContext,
    schedule: Sequence[int],
    start: int = 0,
    *,
    strides: Sequence[int] = (),
    batch_size: int | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (z_t, z_{t->0}, eps) for every t of an ascending schedule; `start` is the timestep of `latents`.

    strides: how many levels each step covers (default: one). A step over m levels stands in for m DDIM steps, up to
    second order in m: the mean of their eps lies (m - 1)/2 levels ahead of the first, and is extrapolated from it and
    the step before, a two-step Adams-Bashforth rule.
    """
    a, at, before = model.alpha_bar(start), 0, None
    for m in strides or [1] * len(schedule):
        first = predict_in_batches(model, latents, schedule[at], context, batch_size)
        noise = first if m == 1 else first + (m - 1) / (2 * before[1]) * (first - before[0])
        before, at = (first, m), at + m
        clean = predict_clean(latents, noise, a)
        a = model.alpha_bar(schedule[at - 1])
        latents = add_noise(clean, noise, a)
        yield latents, clean, noise


def predict_in_batches(model: ImageModel, z: Tensor, t: int, context: TextContext, batch_size: int | None) -> Tensor:
    """Predict eps(z, t) of any number of latents, `batch_size` of them a call (None: all)."""
    return torch.cat([model.predict_noise(part, t, context) for part in z.split(batch_size or len(z))])


def image_batch(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Return [N,3,H,W] from a batch, one image or a sequence of images of one size."""
    if not isinstance(images, Sequence):
        return as_images(images, name="images")
    batch = [as_images(x, name=f"image {k}") for k, x in enumerate(images)]
    sizes = {x.shape[-2:] for x in batch}
    if len(sizes) != 1:
        raise ValueError(f"images have {len(sizes)} different sizes: bring them to one size with fit_images first.")
    return torch.cat(batch)
