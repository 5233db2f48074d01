"""Model folders of the true architectures with random weights, to measure costs where the weights cannot be had.

`python -m experiments.speed.random_models sd15 FOLDER` (or sdxl, svd) writes one in diffusers' format.
"""

import sys
from pathlib import Path

import diffusers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

from interp_lib.inbetweening.temporal import temporal_attentions

VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
}
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SVD_NOISE = {"prediction_type": "v_prediction", "timestep_type": "continuous", "timestep_spacing": "leading"}
SVD_NOISE |= {"use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0}
FRAMES = {"svd": 14, "svd-xt": 25}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def build_unet(kind: str) -> torch.nn.Module:
    """Return the U-Net of "sd15", "sdxl", "svd" or "svd-xt" with initial weights; on the device "meta", none at all."""
    if kind == "sdxl":
        return diffusers.UNet2DConditionModel(**SDXL)
    if kind == "sd15":
        return diffusers.UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    return diffusers.UNetSpatioTemporalConditionModel(num_frames=FRAMES[kind], sample_size=96)  # its defaults are SVD's


def networks(kind: str) -> dict[str, torch.nn.Module]:
    """Return all networks of a model with initial weights, by the names of their folders."""
    if kind in ("sd15", "sdxl"):
        config = transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
        parts = {"text_encoder": transformers.CLIPTextModel(config), "unet": build_unet(kind)}
        size = {"sample_size": 512} if kind == "sd15" else {"sample_size": 1024, "scaling_factor": 0.13025}
        parts["vae"] = diffusers.AutoencoderKL(up_block_types=("UpDecoderBlock2D",) * 4, **size, **VAE)
        if kind == "sdxl":
            large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "hidden_act": "gelu"}
            config = transformers.CLIPTextConfig(num_attention_heads=20, projection_dim=1280, **large)
            parts["text_encoder_2"] = transformers.CLIPTextModelWithProjection(config)
        return parts
    large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    config = transformers.CLIPVisionConfig(patch_size=14, hidden_act="gelu", projection_dim=1024, **large)
    return {
        "vae": diffusers.AutoencoderKLTemporalDecoder(sample_size=768, **VAE),
        "image_encoder": transformers.CLIPVisionModelWithProjection(config),
        "unet": build_unet(kind),
    }


def tuned_weights(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that backward motion has deltas of, by name."""
    layers = temporal_attentions(unet).items()
    parts = [(f"{name}.{part}", attn.get_submodule(part)) for name, attn in layers for part in ("to_v", "to_out.0")]
    return {f"{name}.weight": module.weight for name, module in parts}


def write_random(kind: str, folder: Path) -> None:
    """Write a whole model folder in fp16."""
    torch.manual_seed(0)
    parts = {name: network.half() for name, network in networks(kind).items()}
    if kind in ("sd15", "sdxl"):
        symbols = sorted(ByteLevel.alphabet())  # a tokenizer that knows bytes alone
        symbols += [f"{symbol}</w>" for symbol in symbols] + ["<|startoftext|>", "<|endoftext|>"]
        vocabulary = {symbol: k for k, symbol in enumerate(symbols)}
        parts["tokenizer"] = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
        parts["scheduler"] = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **NOISE)
        if kind == "sdxl":
            pipeline = diffusers.StableDiffusionXLPipeline(**parts, tokenizer_2=parts["tokenizer"])
        else:
            parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
            pipeline = diffusers.StableDiffusionPipeline(**parts)
    else:
        scheduler = diffusers.EulerDiscreteScheduler(**NOISE, **SVD_NOISE)
        processor = transformers.CLIPImageProcessor()
        pipeline = diffusers.StableVideoDiffusionPipeline(**parts, scheduler=scheduler, feature_extractor=processor)
    pipeline.save_pretrained(folder)


if __name__ == "__main__":
    write_random(sys.argv[1], Path(sys.argv[2]))
