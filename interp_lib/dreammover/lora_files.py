"""LoRA files: written in diffusers' own format, read in every format that diffusers' converters know."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.checks import check_number
from interp_lib.files import atomic_write
from interp_lib.models.folder import first_line, quiet

METADATA = "lora_adapter_metadata"  # diffusers' name for the header that holds rank and alpha
SCALING = ("lora_alpha", "alpha_pattern", "use_rslora")  # what of that header decides how strongly a LoRA acts
PREFIX = "unet."


def write_lora(path: Path, state: Mapping[str, Tensor], config: Any) -> None:
    """Write factors and peft's config as safetensors, atomically, as `StableDiffusionPipeline` saves them."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    header = {name: getattr(config, name) for name in ("r", "rank_pattern", *SCALING)}
    header["target_modules"] = sorted(config.target_modules)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        StableDiffusionLoraLoaderMixin.save_lora_weights(
            temporary.parent,
            unet_lora_layers={name: factor.cpu() for name, factor in state.items()},
            weight_name=temporary.name,
            unet_lora_adapter_metadata=header,
        )


def read_lora(path: str | os.PathLike, unet: Any) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Read the LoRA of a U-Net from a safetensors file: diffusers' formats, old and new, or kohya's.

    Returns (state, config, notes): "<layer>.lora_A.weight" [rank,in] and "<layer>.lora_B.weight" [out,rank]; arguments
    of peft's LoraConfig; what was left out (a text encoder's weights), one sentence each. Alpha is taken from the
    header or from kohya's `.alpha`; without either it equals the rank, as in diffusers. Raises FileNotFoundError for a
    missing file, ValueError for one that is no LoRA, was fitted to another U-Net or has non-finite weights.
    """
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from diffusers.utils.peft_utils import get_peft_kwargs
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    state, header = _load(path)
    if not any("lora" in key for key in state):
        raise ValueError(f"{path} holds no LoRA: save one with fit_lora(...).save(path), or with diffusers.")
    name, notes = Path(path).name, []
    if dropped := [key for key in state if "dora_scale" in key]:
        notes.append(f"LoRA {name}: {len(dropped)} DoRA magnitudes left out, which diffusers does not read")
    try:
        with quiet():
            state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(state), unet_config=unet.config)
            if text := [key for key in state if key.startswith("text_encoder")]:
                notes.append(f"LoRA {name}: {len(text)} weights of the text encoder left out, only the U-Net's act")
            prefixed = any(key.startswith((PREFIX, "text_encoder")) for key in state)
            own = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX) or not prefixed}
            own = own if any(".lora_A." in key for key in own) else convert_unet_state_dict_to_peft(own)
            ranks = {f"^{k}": v.shape[1] for k, v in own.items() if ".lora_B." in k}
            alphas = {k.removeprefix(PREFIX): v for k, v in (alphas or {}).items() if k.startswith(PREFIX)}
            alphas = convert_unet_state_dict_to_peft(alphas)  # diffusers forgets to, and then takes one for all layers
            config = get_peft_kwargs(ranks, alphas, own)
            config |= {key: header[PREFIX + key] for key in SCALING if PREFIX + key in header}
            for alpha in (config["lora_alpha"], *config["alpha_pattern"].values()):
                check_number("alpha", alpha)
    except Exception as error:  # what a file of another kind sets off is not foreseeable
        raise ValueError(f"{path} holds no LoRA that diffusers can read ({first_line(error)}).") from None
    _check_layers(path, own, unet)
    return own, config, notes


def _load(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and diffusers' header, {} where there is none."""
    from safetensors import SafetensorError, safe_open

    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"{path!r} is no path of a LoRA: give a file that fit_lora(...).save has written.")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"The LoRA {path} does not exist: save one with fit_lora(...).save(path).")
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
            header = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no safetensors file ({error}): weights load from safetensors only.") from None
    for key, value in state.items():
        if value.ndim and not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path} holds values in {key} that are not finite floats: use another copy of the LoRA.")
    return state, header if isinstance(header, dict) else {}


def _check_layers(path: str | os.PathLike, state: Mapping[str, Tensor], unet: torch.nn.Module) -> None:
    """Raise ValueError unless the factors come in pairs that fit layers of the U-Net."""
    modules = dict(unet.named_modules())
    for key in state:
        layer, _, factor = key.partition(".lora_")
        a, b = (state.get(f"{layer}.lora_{x}.weight", torch.empty(())).shape for x in "AB")
        paired = factor in ("A.weight", "B.weight") and min(len(a), len(b)) >= 2 and a[0] == b[1] > 0
        module = modules.get(layer)
        weight = getattr(getattr(module, "base_layer", module), "weight", None)
        if not paired or weight is None or (b[0], a[1]) != tuple(weight.shape[:2]):
            what = f"{key} {list(state[key].shape)}, which is no matrix of a LoRA of this one"
            raise ValueError(f"{path} was fitted to another model: its {what}, does not fit.")
