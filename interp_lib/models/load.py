"""`load_image_model`: a Stable-Diffusion-like text-to-image model from a folder in diffusers' format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from interp_lib.models.folder import (
    find_folder,
    first_line,
    load_part,
    pick_device,
    pick_dtype,
    read_json,
    read_settings,
    weight_variant,
)
from interp_lib.models.image_model import ImageModel

# SD 1.5's DDIM settings, whatever scheduler the folder names; the betas stay those the model was trained with
DDIM = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}
PARTS = ("unet", "vae", "text_encoder")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either is enough
_VAES = ("AutoencoderKL", "AutoencoderTiny")


@torch.inference_mode(False)  # weights made in inference mode could never be fitted
def load_image_model(
    source: str | os.PathLike = "embedded",
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    offload: bool = False,
) -> ImageModel:
    """Load an image diffusion model: U-Net, VAE, text encoder with its tokenizer, and a DDIM scheduler.

    source: "embedded" (data/models/image of this repository), a local folder in diffusers' format, or a hub name.
    device: "auto" is CUDA, then MPS, then the CPU. dtype: None is float32, on CUDA float16; all networks get the same.
    offload: the networks wait in the computer's memory and take turns on the device, which changes memory alone.
    Everything that can be checked without reading weights is checked first. What was adapted is in `.notes`.
    Raises FileNotFoundError for a missing folder or download, ValueError for a folder that is no such model, one with
    a damaged configuration or tokenizer, or pickled, damaged, missing or non-finite weights, and for an unknown device
    or dtype.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    folder = find_folder(source, embedded="image", check=_check_image_folder, parts=PARTS)
    variants = [weight_variant(folder, part) for part in PARTS]

    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel

    index = read_json(folder / "model_index.json", "diffusers model folder")
    config = read_json(folder / "scheduler" / "scheduler_config.json", "scheduler folder")
    notes = [f"{part}: only fp16 weights there" for part, v in zip(PARTS, variants, strict=True) if v is not None]
    if config.get("_class_name") != "DDIMScheduler":
        notes.append(f"scheduler: DDIM in place of {config.get('_class_name')}, with the same noise schedule")
    scheduler, tokenizer = _scheduler(folder, config), _tokenizer(folder)  # before any weight is read
    vae_class = AutoencoderTiny if index["vae"][1] == "AutoencoderTiny" else AutoencoderKL
    place = torch.device("cpu") if offload else device
    model = ImageModel(
        unet=load_part(UNet2DConditionModel, folder, "unet", dtype, place),
        vae=load_part(vae_class, folder, "vae", dtype, place),
        text_encoder=load_part(CLIPTextModel, folder, "text_encoder", dtype, place),
        tokenizer=tokenizer,
        scheduler=scheduler,
        name=str(source),
        notes=notes,
        settings=read_settings(folder),
    )
    if offload:
        from interp_lib.models.offload import CpuOffload

        model.turns = CpuOffload((model.unet, model.vae, model.text_encoder), device)
    return model


def _scheduler(folder: Path, config: dict[str, Any]) -> Any:
    from diffusers import DDIMScheduler

    path = folder / "scheduler" / "scheduler_config.json"
    try:
        scheduler = DDIMScheduler.from_config({**config, **DDIM})
        usable = len(scheduler.alphas_cumprod) == scheduler.config.num_train_timesteps
    except Exception as error:
        raise ValueError(f"{path} gives no noise schedule ({first_line(error)}): copy the folder again.") from None
    a = scheduler.alphas_cumprod
    if not usable or not bool(((a[:-1] > 0) & (a[:-1] < 1)).all()) or not 0 <= float(a[-1]) < 1:
        raise ValueError(f"{path} gives no noise schedule (alphas beyond (0, 1)): copy the folder again.")
    return scheduler


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    path = folder / "tokenizer"
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder="tokenizer", local_files_only=True)
        tokenizer("a")
    except Exception as error:  # the parser in Rust raises Exception itself
        raise ValueError(f"{path} cannot be loaded ({first_line(error)}): copy the model folder again.") from None
    words = read_json(folder / "text_encoder" / "config.json", "diffusers model folder").get("vocab_size")
    if isinstance(words, int) and len(tokenizer) > words:
        raise ValueError(f"{path} has {len(tokenizer)} tokens and the text encoder {words}: use those of one model.")
    return tokenizer


def _check_image_folder(folder: Path) -> None:
    """Every rule that needs the configuration files only."""
    index = read_json(folder / "model_index.json", "diffusers model folder")
    classes = {part: entry[1] for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    unet = classes.get("unet")
    if unet == "UNetSpatioTemporalConditionModel" or "Video" in str(index.get("_class_name")):
        raise ValueError(f"{folder} holds a video model ({index.get('_class_name')}): load it with load_video_model.")
    if (
        unet != "UNet2DConditionModel"
        or classes.get("vae") not in _VAES
        or classes.get("text_encoder") != "CLIPTextModel"
    ):
        raise ValueError(
            f"{folder} holds a {index.get('_class_name')}: a model like Stable Diffusion 1.5 is needed, with a "
            "UNet2DConditionModel, an AutoencoderKL and a CLIPTextModel."
        )
    for part in (*PARTS, "tokenizer", "scheduler"):
        if not (folder / part).is_dir():
            raise ValueError(f"{folder} has no folder {part}: copy the whole model folder.")
    if not any(all((folder / "tokenizer" / name).is_file() for name in names) for names in TOKENIZERS):
        raise ValueError(
            f"{folder / 'tokenizer'} has neither tokenizer.json nor vocab.json with merges.txt: copy the whole model "
            "folder."
        )
    _check_unet(folder)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json", "scheduler folder")
    if scheduler.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"{folder} predicts '{scheduler['prediction_type']}': a model that predicts epsilon or v is needed."
        )


def _check_unet(folder: Path) -> None:
    unet, vae, text = (read_json(folder / part / "config.json", "diffusers model folder") for part in PARTS)
    up = unet.get("up_block_types", [])
    if not isinstance(up, list):
        raise ValueError(f"{folder / 'unet' / 'config.json'} has up_block_types={up!r}: a list of names is needed.")
    size = unet.get("sample_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(
            f"{folder / 'unet' / 'config.json'} has sample_size={size!r}: one whole number is needed, the latent "
            "pixels a side that the model was trained on."
        )
    if len(up) < 2 or not any("Attn" in str(kind) for kind in up):
        raise ValueError(
            f"{folder / 'unet'} has {len(up)} up-blocks ({', '.join(map(str, up))}): features come from the second "
            "one and attention is replaced in them, so at least two are needed and one with attention."
        )
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise ValueError(
            f"{folder / 'unet'} takes {unet.get('in_channels', 4)} channels and the VAE makes "
            f"{vae.get('latent_channels', 4)}: use a text-to-image model, not one for inpainting or editing."
        )
    if unet.get("addition_embed_type") or unet.get("cross_attention_dim") != text.get("hidden_size"):
        raise ValueError(
            f"{folder / 'unet'} is not conditioned on its one text encoder alone (as in SDXL): use a model like "
            "Stable Diffusion 1.5."
        )
