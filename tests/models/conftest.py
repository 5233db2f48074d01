"""The tiny random pipeline of the conformance folder, whole and as a copy that a test may spoil."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from interp_lib.images import open_image
from interp_lib.models.load import load_image_model

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "dreammover"
TINY = CONFORMANCE / "tiny_sd"
SVD = CONFORMANCE.parent / "inbetween" / "tiny_svd"


@pytest.fixture(scope="module")
def model():
    return load_image_model(TINY, device="cpu")


@pytest.fixture(scope="module")
def images():
    pair = torch.cat([open_image(CONFORMANCE / f"{k}.png")[0] for k in (0, 1)])
    return torch.cat([pair, pair.flip(-1), pair.flip(-2), 1 - pair])[..., :64, :96]


def writable(source, target):
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


@pytest.fixture
def copy(tmp_path):
    return writable(TINY, tmp_path / "model")


@pytest.fixture
def video_copy(tmp_path):
    return writable(SVD, tmp_path / "video")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory):
    """A random model of SDXL's classes, with its three levels and a VAE of factor 4, saved by diffusers' pipeline."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 3}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=32, **sizes, **ends)
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 3),
        "attention_head_dim": (2, 2, 4),
    }
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    added |= {"projection_class_embeddings_input_dim": 6 * 8 + 32, "cross_attention_dim": 64}
    widths = {"block_out_channels": (32, 32, 64), "layers_per_block": 1, "use_linear_projection": True}
    stages = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(block_out_channels=(32, 32, 32), scaling_factor=0.13025, **stages),
        unet=UNet2DConditionModel(sample_size=32, **widths, **blocks, **added),
        scheduler=EulerDiscreteScheduler(**noise),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=CLIPTokenizer.from_pretrained(TINY / "tokenizer"),
    ).save_pretrained(folder := tmp_path_factory.mktemp("sdxl"))
    return folder
