"""Both solvers against diffusers' schedulers and exact solutions; the inversion's timesteps, noise labels and calls."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lib.dreammover.ddim import (
    SOLVERS,
    add_noise,
    ddim_step,
    invert,
    invert_along,
    plan_levels,
    predict_clean,
    timesteps,
)
from interp_lib.dreammover.sampler import descend

QUIET = {"progress": False}


def test_timesteps_are_the_schedulers(tiny):
    for steps in (1, 7, 30, 50, 333, 999):
        tiny.scheduler.set_timesteps(steps)
        assert timesteps(tiny, steps).flip(0).tolist() == tiny.scheduler.timesteps.tolist()
    assert timesteps(tiny, 50)[[0, 1, 13, 29, 49]].tolist() == [1, 21, 261, 581, 981]
    assert abs(tiny.alpha_bar(581) - 0.180) < 1e-3
    assert tiny.alpha_bar(1) < tiny.alpha_bar(0) == tiny.alpha_bar(-19) == float(tiny.scheduler.final_alpha_cumprod)


@given(a=st.floats(0.005, 0.999), b=st.floats(0.005, 0.999), seed=st.integers(0, 99))
def test_steps_are_undone(a, b, seed):
    z, eps = torch.randn(2, 1, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(add_noise(predict_clean(z, eps, a), eps, a), z, atol=1e-12)
    assert torch.allclose(ddim_step(ddim_step(z, eps, a, b), eps, b, a), z, atol=1e-10)


@pytest.mark.parametrize("t", [981, 581, 1])
def test_step_down_is_diffusers(tiny, t):
    tiny.scheduler.set_timesteps(50)
    z, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(t))
    theirs, a = tiny.scheduler.step(eps, t, z), tiny.alpha_bar(t)
    assert torch.allclose(ddim_step(z, eps, a, tiny.alpha_bar(t - 20)), theirs.prev_sample, atol=2e-5)
    assert torch.allclose(predict_clean(z, eps, a), theirs.pred_original_sample, rtol=1e-4, atol=1e-5)


def test_inversion_is_the_plain_loop(tiny, small):
    context = tiny.embed_text("")
    z = tiny.encode(small)
    path, a = [z], float(tiny.scheduler.alphas_cumprod[0])
    for k in range(1, 4):
        t = 1 + 20 * (k - 1)
        with torch.no_grad():
            eps = tiny.unet(z, t, encoder_hidden_states=context.hidden.expand(2, -1, -1)).sample
        b = float(tiny.scheduler.alphas_cumprod[t])
        clean = (z - (1 - a) ** 0.5 * eps) / a**0.5
        z, a = b**0.5 * clean + (1 - b) ** 0.5 * eps, b
        path.append(z)
    inversion = invert(tiny, small, inversion_steps=3, preset="released", **QUIET)
    assert len(inversion.latents) == 4 and inversion.timesteps.tolist() == [1, 21, 41]
    for ours, plain in zip(inversion.latents, path, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)
    assert torch.allclose(inversion.clean, clean, atol=1e-5)


def test_parts_recompose_and_the_papers_noise_is_that_of_the_last_latents(tiny, small):
    inversions = []
    for preset, calls in (("paper", 4), ("released", 3)):
        before = tiny.unet_calls
        inversion = invert(tiny, small, steps=10, inversion_steps=3, preset=preset, **QUIET)
        assert tiny.unet_calls - before == calls
        recomposed = add_noise(inversion.clean, inversion.noise, inversion.alpha_bar)
        assert torch.allclose(recomposed, inversion.latents[-1], atol=1e-5)
        inversions.append(inversion)
    paper, released = inversions
    with torch.no_grad():
        eps = tiny.predict_noise(paper.latents[-1], 201, tiny.embed_text(""))
    assert torch.allclose(paper.noise, eps, atol=1e-6)
    assert torch.equal(paper.latents[-1], released.latents[-1])
    assert (paper.noise - released.noise).abs().max() > 1e-3


def test_batch_does_not_matter(tiny, small):
    both = invert(tiny, small, steps=10, inversion_steps=4, **QUIET)
    one = invert(tiny, small[1], steps=10, inversion_steps=4, **QUIET)
    assert torch.allclose(both.latents[-1][1:], one.latents[-1], atol=1e-5)


def levels(n):
    """n quadratically spaced timesteps down from 600, and 0"""
    return list(pairwise([max(1, round(600 * (k / n) ** 2)) for k in range(n, 0, -1)] + [0]))


@pytest.fixture
def gaussian(tiny):
    """The exact network for data of variance 4: E[eps | z] = sqrt(1 - ab) z / (4 ab + 1 - ab)."""

    def predict_noise(z, t, context=None):
        a = tiny.alpha_bar(t)
        return (1 - a) ** 0.5 * z / (4 * a + 1 - a)

    return SimpleNamespace(alpha_bar=tiny.alpha_bar, predict_noise=predict_noise, lock=nullcontext())


def test_multistep_is_diffusers(tiny):
    """DPM-Solver++(2M) on the same timesteps, with a network that is not linear."""
    from diffusers import DPMSolverMultistepScheduler

    options = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
    options |= {"lower_order_final": False, "final_sigmas_type": "sigma_min"}
    theirs = DPMSolverMultistepScheduler.from_config(tiny.scheduler.config, **options)
    theirs.set_timesteps(timesteps=[t for t, _ in levels(7)])
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    z = start
    for t in theirs.timesteps:
        z = theirs.step(torch.tanh(z), t, z).prev_sample
    model = SimpleNamespace(alpha_bar=tiny.alpha_bar, lock=nullcontext())
    first, second = ([x for _, x in descend(model, lambda z, t: z.tanh(), start, levels(7), s)][-1] for s in SOLVERS)
    assert torch.allclose(second, z, atol=2e-5)
    assert (first - z).abs().max() > 1e-2


@pytest.mark.parametrize("solver, order", [("ddim", 1), ("dpmsolver++", 2)])
def test_order_of_convergence(gaussian, solver, order):
    """Data that are Gaussian: the exact path scales with the standard deviation of z_t."""
    start, (a, b) = torch.ones(1, dtype=torch.float64), (gaussian.alpha_bar(t) for t in (600, 0))
    exact = ((3 * b + 1) / (3 * a + 1)) ** 0.5
    errors = []
    for n in (10, 20, 40):
        *_, (_, z) = descend(gaussian, gaussian.predict_noise, start, levels(n), solver)
        errors.append(abs(float(z) - exact))
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.25)


def test_strides_stand_in_for_single_steps(gaussian):
    """A stride over m levels is off the path of single steps by a second power of m, a long DDIM step by the first."""
    start, schedule = torch.ones(1, dtype=torch.float64), list(range(1, 802))

    def end(strides=(), labels=schedule):
        return float(list(invert_along(gaussian, start, None, labels, strides=strides))[-1][0])

    single = end()
    second, first = [], []
    for m in (5, 10, 20):
        dense = 401
        second.append(abs(end([1] * dense + [m] * (400 // m)) - single))
        first.append(abs(end(labels=schedule[:dense] + schedule[dense - 1 + m :: m]) - single))
    for k in (0, 1):
        assert second[k + 1] / second[k] == pytest.approx(4, rel=0.3) and first[k + 1] / first[k] < 2.5
    assert second[2] < first[2] / 5


def test_the_levels_of_a_quick_run(tiny, small):
    plan = plan_levels(tiny, 7, solver="dpmsolver++")
    assert plan.down == [581, 327, 145, 36]
    assert plan.strides == [1] * 14 + [2, 3, 2, 2, 2, 3, 2] and torch.equal(plan.schedule, timesteps(tiny, 50)[:30])
    own = plan_levels(tiny, 8, 2, solver="dpmsolver++")  # a quarter of the schedule, below the features
    assert own.strides == [1] * 12 and own.down == [221, 55]
    full = plan_levels(tiny, 50, solver="dpmsolver++")
    assert full.strides == [1] * 30 and len(full.down) == 30
    inversion = invert(tiny, small, steps=8, inversion_steps=2, solver="dpmsolver++", **QUIET)
    assert inversion.timesteps.tolist() == timesteps(tiny, 50)[:12].tolist() and len(inversion.latents) == 13
    assert inversion.levels() == [(221, 55), (55, 0)]


@pytest.mark.parametrize("settings, steps, expected", [({}, 50, 30), ({}, 10, 6), ({"inversion_steps": 14}, 20, 6)])
def test_inversion_steps_by_default(tiny, small, monkeypatch, settings, steps, expected):
    """The model's recommendation, else the paper's, is stated for 50 steps and scales with them."""
    monkeypatch.setattr(tiny, "settings", settings)
    assert len(plan_levels(tiny, steps).down) == expected
    assert len(invert(tiny, small, steps=4, **QUIET).timesteps) == len(plan_levels(tiny, 4).schedule)


def test_wrong_arguments(tiny, small, monkeypatch):
    """Beside those of tests/robustness."""
    for options, words in (({"steps": 20, "inversion_steps": 30}, "at most steps = 20"), ({"solver": "x"}, "solver=")):
        with pytest.raises(ValueError, match=words):
            invert(tiny, small, **options)
    with pytest.raises(ValueError, match="different sizes"):
        invert(tiny, [small[0], small[1, :, : -tiny.multiple]])
    for recommended in (0, 51, "14", True):
        monkeypatch.setattr(tiny, "settings", {"inversion_steps": recommended})
        with pytest.raises(ValueError, match="settings.json"):
            plan_levels(tiny, 50)
