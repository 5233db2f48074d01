"""A film through several keyframes: its stretches are `inbetween`'s, no image is encoded and no frame shown twice."""

import pytest
import torch

from interp_lib import inbetween, inbetween_sequence
from interp_lib.inbetweening.pipeline import QUICK
from interp_lib.inbetweening.sampling import unet_calls

SHORT = {"frames": 3, "steps": 2, "recurrence": 1, "progress": False, "seed": 4}


@pytest.fixture(scope="module")
def images(keyframes):
    return torch.cat([keyframes, keyframes[:1].flip(-1)])


def test_two_images_are_inbetween(tiny, images):
    pair, film = inbetween(tiny, *images[:2], **SHORT), inbetween_sequence(tiny, images[:2], **SHORT)
    assert torch.equal(film.frames, pair.frames) and torch.equal(film.latents, pair.latents)
    assert (film.unet_calls, film.notes) == (pair.unet_calls, pair.notes)


@pytest.mark.parametrize("loop", [False, True])
def test_every_stretch_is_inbetween(tiny, images, loop):
    encoded, before, seen = [], tiny.unet_calls, []
    hooks = [
        tiny.vae.encoder.register_forward_hook(lambda m, given, out: encoded.append(len(given[0]))),
        tiny.image_encoder.register_forward_hook(lambda m, given, out: encoded.append(1)),
    ]
    film = inbetween_sequence(tiny, list(images), loop=loop, on_step=seen.append, **SHORT)
    for hook in hooks:
        hook.remove()
    stretches = [(0, 1), (1, 2), (2, 0)] if loop else [(0, 1), (1, 2)]
    assert sum(encoded) == 2 * 3  # each image once by the VAE, once by CLIP
    assert film.unet_calls == tiny.unet_calls - before == len(seen) == 3 * len(stretches)
    pairs = [inbetween(tiny, images[a], images[b], **SHORT) for a, b in stretches]
    frames, latents = torch.cat([p.frames[:2] for p in pairs]), torch.cat([p.latents[:, :2] for p in pairs], 1)
    if not loop:
        frames, latents = torch.cat([frames, pairs[-1].frames[2:]]), torch.cat([latents, pairs[-1].latents[:, 2:]], 1)
    assert torch.equal(film.frames, frames) and torch.equal(film.latents, latents)
    assert film.notes == ["keyframes, as the model draws them: frame 0, 2, 4, counted from 0"]


def test_the_forward_model_sees_no_last_keyframe(tiny, images):
    film = inbetween_sequence(tiny, images, method="forward", **SHORT)
    assert film.notes == ["keyframes, as the model draws them: frame 0, 2, counted from 0"]


def test_quick_is_less_than_a_third_of_the_papers_calls():
    assert 3 * unet_calls("dual", **QUICK) < unet_calls("dual", 50, 5)
