"""Eq. 2 and 3 against diffusers' scheduler and plain loops; the inversion's timesteps, noise labels and call counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lib.dreammover.ddim import add_noise, choose_inversion_steps, ddim_step, invert, predict_clean, timesteps

QUIET = {"progress": False}


def test_timesteps_of_fifty(tiny):
    t = timesteps(tiny, 50)
    assert t[:2].tolist() == [1, 21] and t[-1] == 981
    assert t[13] == 261 and t[29] == 581
    assert abs(tiny.alpha_bar(581) - 0.180) < 1e-3


@pytest.mark.parametrize("steps", [1, 7, 30, 50, 333, 999])
def test_timesteps_are_the_schedulers(tiny, steps):
    tiny.scheduler.set_timesteps(steps)
    assert timesteps(tiny, steps).flip(0).tolist() == tiny.scheduler.timesteps.tolist()


def test_alpha_bar_below_the_first_timestep(tiny):
    assert tiny.alpha_bar(0) == tiny.alpha_bar(-19) == float(tiny.scheduler.final_alpha_cumprod)
    assert tiny.alpha_bar(0) > tiny.alpha_bar(1)


@given(a=st.floats(0.005, 0.999), b=st.floats(0.005, 0.999), seed=st.integers(0, 99))
def test_steps_are_undone(a, b, seed):
    z, eps = torch.randn(2, 1, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(add_noise(predict_clean(z, eps, a), eps, a), z, atol=1e-12)
    assert torch.allclose(ddim_step(ddim_step(z, eps, a, b), eps, b, a), z, atol=1e-10)


@pytest.mark.parametrize("t", [981, 581, 21, 1])
def test_step_down_is_diffusers(tiny, t):
    tiny.scheduler.set_timesteps(50)
    z, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(t))
    ours = ddim_step(z, eps, tiny.alpha_bar(t), tiny.alpha_bar(t - 20))
    assert torch.allclose(ours, tiny.scheduler.step(eps, t, z).prev_sample, atol=2e-5)
    assert torch.allclose(
        predict_clean(z, eps, tiny.alpha_bar(t)),
        tiny.scheduler.step(eps, t, z).pred_original_sample,
        rtol=1e-4,
        atol=1e-5,
    )


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


@pytest.mark.parametrize("preset, calls", [("paper", 4), ("released", 3)])
def test_parts_recompose_and_calls(tiny, small, preset, calls):
    before = tiny.unet_calls
    inversion = invert(tiny, small, steps=10, inversion_steps=3, preset=preset, **QUIET)
    assert tiny.unet_calls - before == calls
    recomposed = add_noise(inversion.clean, inversion.noise, inversion.alpha_bar)
    assert torch.allclose(recomposed, inversion.latents[-1], atol=1e-5)


def test_paper_noise_is_that_of_the_last_latents(tiny, small):
    paper, released = (
        invert(tiny, small, steps=10, inversion_steps=3, preset=p, **QUIET) for p in ("paper", "released")
    )
    with torch.no_grad():
        eps = tiny.predict_noise(paper.latents[-1], 201, tiny.embed_text(""))
    assert torch.allclose(paper.noise, eps, atol=1e-6)
    assert torch.equal(paper.latents[-1], released.latents[-1])
    assert (paper.noise - released.noise).abs().max() > 1e-3


def test_batch_does_not_matter(tiny, small):
    both = invert(tiny, small, steps=10, inversion_steps=4, **QUIET)
    one = invert(tiny, small[1], steps=10, inversion_steps=4, **QUIET)
    assert torch.allclose(both.latents[-1][1:], one.latents[-1], atol=1e-5)


@pytest.mark.parametrize("settings, steps, expected", [({}, 50, 30), ({}, 10, 6), ({"inversion_steps": 14}, 20, 6)])
def test_inversion_steps_by_default(tiny, small, monkeypatch, settings, steps, expected):
    """The model's recommendation, else the paper's, is stated for 50 steps and scales with them."""
    monkeypatch.setattr(tiny, "settings", settings)
    assert choose_inversion_steps(tiny, None, steps) == expected
    assert len(invert(tiny, small, steps=4, **QUIET).timesteps) == choose_inversion_steps(tiny, None, 4)


@pytest.mark.parametrize("recommended", [0, 51, "14", True])
def test_a_recommendation_out_of_range(tiny, monkeypatch, recommended):
    monkeypatch.setattr(tiny, "settings", {"inversion_steps": recommended})
    with pytest.raises(ValueError, match="settings.json"):
        choose_inversion_steps(tiny, None, 50)


@pytest.mark.parametrize(
    "options, word",
    [
        ({"inversion_steps": 51}, "inversion_steps=51"),
        ({"steps": 20, "inversion_steps": 30}, "at most steps = 20"),
        ({"inversion_steps": 0}, "inversion_steps=0"),
        ({"steps": 1000}, "steps=1000"),
        ({"preset": "fast"}, "preset='fast'"),
        ({"prompt": None}, "prompt=None"),
        ({"prompt": ["a", 3]}, "prompt="),
    ],
)
def test_wrong_arguments(tiny, small, options, word):
    before = tiny.unet_calls
    with pytest.raises(ValueError, match=word):
        invert(tiny, small, **options)
    assert tiny.unet_calls == before


def test_wrong_images(tiny, small):
    with pytest.raises(ValueError, match=f"multiples of {tiny.multiple}"):
        invert(tiny, small[..., :-3])
    with pytest.raises(ValueError, match="different sizes"):
        invert(tiny, [small[0], small[1, :, : -tiny.multiple]])
