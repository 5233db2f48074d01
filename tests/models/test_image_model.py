"""The image model: latents, text and noise against what diffusers' networks compute."""

import shutil

import pytest
import torch
from diffusers import AutoencoderTiny

from interp_lib.models.load import load_image_model
from tests.models.spoil import edit


def test_encode_is_the_scaled_mean(model, images):
    with torch.no_grad():
        plain = torch.cat([model.vae.encode(x[None] * 2 - 1).latent_dist.mean for x in images]) * 0.18215
    latents = model.encode(images)  # eight images, so two chunks
    assert latents.shape == (8, 4, 8, 12) and latents.dtype == torch.float32
    assert torch.allclose(latents, plain, atol=1e-5)
    assert torch.equal(model.encode(images), latents)
    with pytest.raises(ValueError, match="multiples of 8.*fit_images"):
        model.encode(images[..., :60])


def test_decode_is_in_range_and_in_chunks(model):
    z = torch.randn(7, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = torch.cat([model.vae.decode(x[None] / 0.18215).sample for x in z]) / 2 + 0.5
    decoded = model.decode(z)
    assert decoded.shape == (7, 3, 32, 40)
    assert torch.allclose(decoded, plain.clamp(0, 1), atol=1e-5)
    assert float(plain.max()) > 1 or float(plain.min()) < 0  # so the clamp had something to do


def test_text(model):
    one, two = model.embed_text("a dog"), model.embed_text(["", "a dog"])
    assert one.pooled is None and one.hidden.shape == (1, 77, 32) and two.hidden.shape == (2, 77, 32)
    first, second = two.hidden
    assert torch.allclose(second, one.hidden[0], atol=1e-5) and not torch.allclose(first, one.hidden[0], atol=1e-3)
    for wrong, says in (("word " * 80, "at most 77"), ([], "is no text"), (["a", None], "is no text")):
        with pytest.raises(ValueError, match=says):
            model.embed_text(wrong)


def test_a_tokenizer_without_a_limit(model, copy):
    (copy / "tokenizer" / "tokenizer_config.json").unlink()
    other = load_image_model(copy, device="cpu")
    assert other.embed_text("a dog").hidden.shape == model.embed_text("a dog").hidden.shape
    with pytest.raises(ValueError, match="at most 77"):
        other.embed_text("word " * 80)


def test_noise_is_counted(model):
    z, context = torch.randn(3, 4, 8, 8), model.embed_text("")
    before = model.unet_calls
    with torch.no_grad():
        eps = model.predict_noise(z, 261, context)
        plain = model.unet(z, 261, encoder_hidden_states=context.hidden.expand(3, -1, -1)).sample
    assert model.unet_calls == before + 1
    assert torch.equal(eps, plain)


def test_v_prediction_becomes_noise(model, copy):
    edit(copy / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    v_model = load_image_model(copy, device="cpu")
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        v = model.predict_noise(z, 581, model.embed_text(""))
        eps = v_model.predict_noise(z, 581, v_model.embed_text(""))
    a = model.alpha_bar(581)
    clean = (z - (1 - a) ** 0.5 * eps) / a**0.5
    assert torch.allclose(clean, a**0.5 * z - (1 - a) ** 0.5 * v, atol=1e-4)
    assert torch.allclose(a**0.5 * eps - (1 - a) ** 0.5 * clean, v, atol=1e-4)  # the definition of v


def test_tiny_autoencoder(copy):
    shutil.rmtree(copy / "vae")
    torch.manual_seed(0)
    widths, ones = (8, 8, 8, 8), (1, 1, 1, 1)
    tiny = AutoencoderTiny(3, 3, widths, widths, num_encoder_blocks=ones, num_decoder_blocks=ones)
    tiny.save_pretrained(copy / "vae")
    edit(copy / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    other = load_image_model(copy, device="cpu")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        plain = tiny.eval().encode(images * 2 - 1).latents
    assert other.vae_factor == 8 and torch.allclose(other.encode(images), plain, atol=1e-5)
    assert other.decode(plain).shape == images.shape
