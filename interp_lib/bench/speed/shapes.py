"""Model folders of the true architectures with random weights, whole or narrower: what a network costs can be measured
where its weights cannot be had. Every folder is in diffusers' layout and goes through the loaders like any other.

`python -m interp_lib.bench.speed.shapes svd FOLDER [--narrower 4]`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from experiments.train.export import IMAGE, VIDEO, write_model
from experiments.train.text import build_tokenizer
from interp_lib.cli_help import Parser

WIDTHS = (320, 640, 1280, 1280)  # of the four levels of every U-Net here
VAE_WIDTHS = (128, 256, 512, 512)
NOISE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NOISE |= {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
# What differs between the two generations of Stable Diffusion: the U-Net's, the text encoder's, the prediction
SD = {
    "sd15": (
        {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "epsilon",
    ),
    "sd21": (
        {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "sample_size": 96}
        | {"use_linear_projection": True},
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
        | {"hidden_act": "gelu", "projection_dim": 512},
        "v_prediction",
    ),
}
SVD = {"svd": 14, "svd-xt": 25}  # frames
KINDS = (*SD, *SVD)


def unet_config(kind: str, narrower: int = 1) -> dict[str, Any]:
    """The U-Net's configuration as it lies on the hub; channels (not heads of SD 1.5, nor layers) divided by
    `narrower`, a divisor of 10 that leaves multiples of 32."""
    widths = tuple(width // narrower for width in WIDTHS)
    if kind in SD:
        own, text, _ = SD[kind]
        heads = own["attention_head_dim"]
        if isinstance(heads, tuple):
            own = own | {"attention_head_dim": tuple(max(1, width // 64) for width in widths)}
        return own | {"cross_attention_dim": _divided(text["hidden_size"], narrower), "block_out_channels": widths}
    return {
        "block_out_channels": widths,
        "num_attention_heads": tuple(max(1, width // 64) for width in widths),
        "cross_attention_dim": _divided(1024, narrower),
        "num_frames": SVD[kind],
        "sample_size": 96,
    }


def build_unet(kind: str, narrower: int = 1) -> torch.nn.Module:
    """The U-Net with initial weights; on the device "meta", none at all."""
    cls = diffusers.UNet2DConditionModel if kind in SD else diffusers.UNetSpatioTemporalConditionModel
    return cls(**unet_config(kind, narrower))


def write_random(kind: str, folder: Path, *, narrower: int = 1, seed: int = 0) -> Path:
    """A whole model folder, fp16 safetensors. kind: "sd15", "sd21", "svd" or "svd-xt"."""
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}: there are {', '.join(KINDS)}.")
    if narrower not in (1, 2, 5, 10):
        raise ValueError(f"narrower={narrower} does not divide the channels into groups: give 1, 2, 5 or 10.")
    torch.manual_seed(seed)
    others = _image_others(kind) if kind in SD else _video_others()
    write_model(folder, IMAGE if kind in SD else VIDEO, **others, **networks(kind, narrower))
    return folder


def networks(kind: str, narrower: int = 1) -> dict[str, torch.nn.Module]:
    """All networks of a model with initial weights, by the names of their folders."""
    others = _image_networks(kind, narrower) if kind in SD else _video_networks(narrower)
    return {**others, "unet": build_unet(kind, narrower)}


def _tokenizer() -> Any:
    tokenizer = build_tokenizer(["a photograph"])
    tokenizer.model_max_length = 77
    return tokenizer


def _image_others(kind: str) -> dict[str, Any]:
    scheduler = diffusers.DDIMScheduler(**NOISE, prediction_type=SD[kind][2])
    return {"tokenizer": _tokenizer(), "scheduler": scheduler}


def _image_networks(kind: str, narrower: int) -> dict[str, torch.nn.Module]:
    _, text, _ = SD[kind]
    tokenizer = _tokenizer()
    narrow = {name: _divided(text[name], narrower) for name in ("hidden_size", "intermediate_size")}
    heads = {"num_attention_heads": narrow["hidden_size"] // 64}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **text | narrow | heads | ends)
    return {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=tuple(_divided(width, narrower, 32) for width in VAE_WIDTHS),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        ),
        "text_encoder": transformers.CLIPTextModel(config),
    }


def _video_networks(narrower: int) -> dict[str, torch.nn.Module]:
    vision = transformers.CLIPVisionConfig(
        hidden_size=_divided(1280, narrower),
        intermediate_size=_divided(5120, narrower),
        num_hidden_layers=32,
        num_attention_heads=16 if narrower == 1 else _divided(1280, narrower) // 64,
        patch_size=14,
        image_size=224,
        hidden_act="gelu",
        projection_dim=_divided(1024, narrower),
    )
    return {
        "vae": diffusers.AutoencoderKLTemporalDecoder(
            block_out_channels=tuple(_divided(width, narrower, 32) for width in VAE_WIDTHS),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=768,
        ),
        "image_encoder": transformers.CLIPVisionModelWithProjection(vision),
    }


def _video_others() -> dict[str, Any]:
    return {
        "scheduler": diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction",
            timestep_type="continuous",
            timestep_spacing="leading",
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
            **{name: NOISE[name] for name in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")},
            steps_offset=1,
        ),
        "feature_extractor": transformers.CLIPImageProcessor(),
    }


def _divided(width: int, narrower: int, multiple: int = 64) -> int:
    """A width divided, as a multiple of what groups and heads need."""
    return max(multiple, width // narrower // multiple * multiple)


def make_parser() -> Parser:
    about, examples = __doc__.split("\n")[0], {"sd15 build/random-sd --narrower 5": "a fifth of the channels"}
    parser = Parser(prog="python -m interp_lib.bench.speed.shapes", description=about, examples=examples)
    parser.add_argument("kind", choices=KINDS, help="which architecture")
    parser.add_argument("folder", type=Path, help="where it is put, replaced if it is there")
    parser.add_argument("--narrower", type=int, default=1, help="divide all channels: 1, 2, 5 or 10")
    return parser


def main(arguments: list[str] | None = None) -> int:
    asked = make_parser().parse_args(arguments)
    try:
        print(write_random(asked.kind, asked.folder, narrower=asked.narrower))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
