"""SDXL: the same calls and methods on two text encoders, sizes in the conditioning, and a U-Net of three levels."""

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

from experiments.speed.random_models import build_unet
from interp_lib import diffusion_features, fit_lora, interpolate, load_lora, replace_self_attention
from interp_lib.models import image_model, load_image_model, randomly_initialised
from tests.models.conftest import writable
from tests.models.spoil import config, index

SHORT = {"frames": 2, "steps": 4, "inversion_steps": 2, "progress": False}


@pytest.fixture(scope="module")
def xl(sdxl_folder):
    return load_image_model(sdxl_folder, device="cpu")


@pytest.fixture(scope="module")
def pipeline(sdxl_folder):
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl_folder)
    pipeline.unet.to(memory_format=torch.channels_last)  # as the loader has it; the other layout rounds differently
    return pipeline


@pytest.fixture(scope="module")
def pair():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("prompts, count", [("", 3), (["a dog", "two red birds"], 2)])
def test_noise_is_diffusers_own(xl, pipeline, prompts, count):
    z = torch.randn(count, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    hidden, _, pooled, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
    sizes = pipeline._get_add_time_ids((64, 96), (0, 0), (64, 96), torch.float32, text_encoder_projection_dim=32)
    added = {"text_embeds": pooled.expand(count, -1), "time_ids": sizes.expand(count, -1)}
    theirs = pipeline.unet(z, 261, hidden.expand(count, -1, -1), added_cond_kwargs=added).sample
    context = xl.embed_text(prompts)
    assert torch.allclose(context.hidden, hidden, atol=1e-6) and torch.allclose(context.pooled, pooled, atol=1e-6)
    assert torch.allclose(xl.predict_noise(z, 261, context), theirs, atol=1e-6)
    added["time_ids"] = added["time_ids"].flip(1)
    other = pipeline.unet(z, 261, hidden.expand(count, -1, -1), added_cond_kwargs=added).sample
    assert not torch.allclose(other, theirs, atol=1e-4)


@torch.no_grad()
def test_latents_are_diffusers_own(xl, pipeline, pair):
    z = pipeline.vae.encode(pair * 2 - 1).latent_dist.mode() * 0.13025
    assert torch.allclose(xl.encode(pair), z, atol=1e-5)
    assert torch.allclose(xl.decode(z), (pipeline.vae.decode(z / 0.13025).sample / 2 + 0.5).clamp(0, 1), atol=1e-5)
    assert (xl.native_size, xl.vae_factor, xl.prompt_length) == (128, 4, 77)
    assert xl.notes == ["scheduler: DDIM in place of EulerDiscreteScheduler, with the same noise schedule"]
    assert xl.alpha_bar(261) == float(pipeline.scheduler.alphas_cumprod[261])


def test_interpolate_with_a_lora_that_its_pipeline_reads_and_without(xl, pipeline, pair, tmp_path):
    images, z, context, path = pair.split(1), xl.encode(pair), xl.embed_text(""), tmp_path / "pair.safetensors"
    plain = interpolate(xl, *images, lora=False, **SHORT)
    assert plain.frames.shape == (4, 3, 64, 96) and bool(torch.isfinite(plain.latents).all())
    assert torch.equal(plain.frames[[0, -1]], pair) and plain.flow01.shape == (1, 2, 16, 24)
    with torch.no_grad(), fit_lora(xl, pair, steps=2, rank=2, lr=1e-2, progress=False) as lora:
        lora.save(path)
        fitted, ours = interpolate(xl, *images, lora=lora, **SHORT).frames, xl.predict_noise(z, 261, context)
        added = {"text_embeds": context.pooled.expand(2, -1), "time_ids": torch.tensor([[64.0, 96, 0, 0, 64, 96]] * 2)}
        pipeline.load_lora_weights(path)
        theirs = pipeline.unet(z, 261, context.hidden.expand(2, -1, -1), added_cond_kwargs=added).sample
        pipeline.unload_lora_weights()
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(fitted, plain.frames, atol=1e-4)
    assert torch.equal(interpolate(xl, *images, lora=path, **SHORT).frames, fitted)
    assert torch.equal(interpolate(xl, *images, lora=False, **SHORT).frames, plain.frames)


def test_files_of_kohya_are_read(xl, pair, tmp_path):
    """Theirs have the block names of Stability's own code."""
    g, outputs = torch.Generator().manual_seed(0), []
    down, up = torch.randn(2, 32, generator=g), torch.randn(32, 2, generator=g)
    ours = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
    kohya = "lora_unet_output_blocks_2_1_transformer_blocks_0_attn1_to_q."
    save_file({f"{ours}A.weight": down, f"{ours}B.weight": up}, tmp_path / "ours.safetensors")
    theirs = {f"{kohya}lora_down.weight": down, f"{kohya}lora_up.weight": up, f"{kohya}alpha": torch.tensor(2.0)}
    save_file(theirs, tmp_path / "kohya.safetensors")
    z, context = xl.encode(pair), xl.embed_text("")
    for name in ("ours", "kohya"):
        with torch.no_grad(), load_lora(xl, tmp_path / f"{name}.safetensors"):
            outputs.append(xl.predict_noise(z, 261, context))
    with torch.no_grad():
        assert torch.equal(*outputs) and not torch.allclose(xl.predict_noise(z, 261, context), outputs[0], atol=1e-4)


def test_blocks_are_chosen_by_position(xl, pair):
    outputs = [diffusion_features(xl, pair, step=1, steps=4, block=k, progress=False) for k in range(3)]
    assert [tuple(x.shape[1:]) for x in outputs] == [(64, 8, 12), (32, 16, 24), (32, 16, 24)]
    assert torch.equal(diffusion_features(xl, pair, step=1, steps=4, progress=False), outputs[1])


def test_the_full_width_takes_the_hooks():
    """On the device "meta", where tensors have shapes and no values."""
    with torch.device("meta"):
        unet = build_unet("sdxl")
        z, hidden = torch.zeros(4, 4, 128, 128), torch.zeros(4, 77, 2048)
        added = {"text_embeds": torch.zeros(4, 1280), "time_ids": torch.zeros(4, 6)}
        assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684  # of stable-diffusion-xl-base-1.0
        for preset, layers in (("paper", 36), ("released", 6)):  # 10 transformer blocks thrice and 2 thrice
            with torch.no_grad(), replace_self_attention(unet, preset=preset) as control:
                assert unet(z, torch.tensor(1), hidden, added_cond_kwargs=added).sample.shape == z.shape
            assert control.count == layers


def test_a_random_unet_and_a_chunk_a_size(xl):
    other = randomly_initialised(xl)
    z = torch.zeros(1, 4, 16, 16)
    with torch.no_grad():
        assert other.predict_noise(z, 1, other.embed_text("a")).shape == z.shape
    assert [image_model.vae_chunk(side, side) for side in (64, 512, 768, 1024, 2048)] == [6, 6, 2, 1, 1]


@pytest.mark.parametrize(
    "spoil, word",
    [
        (index(text_encoder=[None, None], tokenizer=[None, None]), "the base of Stab"),
        (config("unet", cross_attention_dim=1280), "the refiner is not"),
        (config("unet", projection_class_embeddings_input_dim=5 * 8 + 32), "the refiner is not"),
        (index(text_encoder_2=[None, None]), "not conditioned on its text encoders"),
        (lambda f: (f / "tokenizer_2" / "tokenizer.json").unlink(), "tokenizer_2 has neither"),
    ],
)
def test_what_is_not_the_base(sdxl_folder, tmp_path, spoil, word):
    folder = writable(sdxl_folder, tmp_path / "model")
    spoil(folder)
    with pytest.raises(ValueError, match=word):
        load_image_model(folder, device="cpu")
