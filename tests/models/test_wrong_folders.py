"""One sentence for every folder that will not do; tests/robustness has damaged files, wrong names and devices."""

import shutil

import pytest

from interp_lib.models import folder as folder_module
from interp_lib.models import load_image_model, load_video_model
from tests.models.conftest import SVD, TINY
from tests.models.spoil import UNET_FILE, config, index, not_finite, remove, sharded, text, weights

LOADERS = {"image": load_image_model, "video": load_video_model}
BOTH = [
    (lambda f: shutil.rmtree(f / "vae"), "vae is no diffusers model: config.json is missing"),
    (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json is missing"),
    (remove(UNET_FILE), "no safetensors weights"),
    (not_finite, "NaN or infinite weights in conv_in.bias"),
    (config("scheduler", beta_schedule="cubic"), "scheduler_config.json gives no noise schedule"),
    (lambda f: (config("scheduler", beta_end=None)(f), not_finite(f)), "noise schedule"),  # weights are read last
    (text("settings.json", "[]"), "settings.json holds a JSON list"),
]
IMAGE = [
    (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer has neither"),
    (weights(lambda s: {k: v for k, v in s.items() if k != "conv_in.bias"}), "conv_in.bias"),
    (weights(lambda s: s | {"conv_in.bias": s["conv_in.bias"][:3].clone()}), "cannot be loaded"),
    (index(unet=["diffusers", "UNetSpatioTemporalConditionModel"]), "load_video_model"),
    (index(_class_name="StableVideoDiffusionPipeline"), "load_video_model"),
    (index(unet=["diffusers", "UNet1DModel"]), "Stable Diffusion 1.5"),
    (index(text_encoder=["transformers", "T5EncoderModel"]), "Stable Diffusion 1.5"),
    (config("unet", up_block_types="UpBlock2D"), "unet cannot be loaded"),
    (config("unet", sample_size=[16, 16]), r"sample_size=\[16, 16\]"),
    (config("unet", addition_embed_type="text_time"), "not conditioned on its text encoders"),
    (config("vae", block_out_channels=[]), "vae cannot be loaded"),
    (config("scheduler", prediction_type="sample"), "epsilon or v"),
    (config("scheduler", trained_betas=[0.1, 2.0]), "gives no noise schedule"),
    (lambda f: sharded(f)[1].unlink(), "00002-of-00002.safetensors .*missing"),
    (lambda f: (sharded(f), text(f"{UNET_FILE}.index.json", "{}")(f)), "weight_map"),
    (remove("tokenizer/vocab.json"), "neither tokenizer.json nor vocab.json with merges.txt"),
    (text("tokenizer/tokenizer.json", "{}"), "tokenizer cannot be loaded"),
    (config("text_encoder", vocab_size=100), "has 514 tokens and the text encoder 100"),
]
VIDEO = [
    (index(unet=["diffusers", "UNet2DConditionModel"]), "image model .*load_image_model"),
    (index(unet=["diffusers", "UNet3DConditionModel"]), "unet is a UNetSpatioTemporalConditionModel"),
    (index(vae=["diffusers", "AutoencoderKL"]), "vae is a AutoencoderKLTemporalDecoder"),
    (lambda f: shutil.rmtree(f / "image_encoder"), "image_encoder is no diffusers model"),
    (config("unet", in_channels=4), "takes 4 channels, not twice the VAE's 4"),
    (config("unet", cross_attention_dim=64), "does not fit its image encoder"),
    (config("scheduler", prediction_type="epsilon"), "predicts 'epsilon': a model that predicts v_pred"),
    (text("feature_extractor/preprocessor_config.json", "{"), "cannot be read as JSON"),
]
ROWS = [(kind, *row) for kind in LOADERS for row in BOTH]
ROWS += [("image", *row) for row in IMAGE] + [("video", *row) for row in VIDEO]


@pytest.mark.parametrize("kind, spoil, word", ROWS)
def test_one_sentence_for_a_wrong_folder(copy, video_copy, kind, spoil, word):
    folder = copy if kind == "image" else video_copy
    spoil(folder)
    with pytest.raises(ValueError, match=word) as caught:
        LOADERS[kind](folder, device="cpu")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".") and str(folder) in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # no second traceback above it


@pytest.mark.parametrize("kind", LOADERS)
def test_a_single_file_and_a_missing_embedded_model(kind, tmp_path, monkeypatch):
    source = TINY if kind == "image" else SVD
    with pytest.raises(ValueError, match="is a file, .*from_single_file.*save_pretrained"):
        LOADERS[kind](source / UNET_FILE)
    monkeypatch.setattr(folder_module, "EMBEDDED", tmp_path)
    with pytest.raises(FileNotFoundError, match=f"data/models/{kind}: make it with `make models`"):
        LOADERS[kind]()
