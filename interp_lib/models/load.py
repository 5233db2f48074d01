"""`load_image_model` and `load_video_model`: models from folders in diffusers' format."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import CpuOffload, add_hook_to_module
from torch import Tensor

from interp_lib.models.folder import (
    find_folder,
    first_line,
    has_weights,
    pick_device,
    pick_dtype,
    quiet,
    read_json,
    read_settings,
)
from interp_lib.models.image_model import ImageModel
from interp_lib.models.layout import TEXTS, Contents, inspect_image, inspect_video
from interp_lib.models.video_model import CLIP_MEAN, CLIP_STD, Format, VideoModel

REVERSE, NO_ROTATION = "reverse.safetensors", "no_rotation.safetensors"  # next to the embedded model's parts
# SD 1.5's DDIM settings, whatever scheduler the folder names; the betas stay those the model was trained with
DDIM = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}
CLIP_WORDS = 49408  # where a configuration does not say


@torch.inference_mode(False)  # weights made in inference mode could never be fitted
def load_image_model(
    source: str | os.PathLike = "embedded",
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    offload: bool = False,
) -> ImageModel:
    """Load Stable Diffusion 1.5, 2.1 or XL (its base), or a model of the same classes, with a DDIM scheduler.

    source: "embedded" (data/models/image of this repository), a local folder in diffusers' format, or a hub name.
    device: "auto" is CUDA, then MPS, then the CPU. dtype: of all networks, None is float32, on CUDA float16, where a
    VAE that overflows by its own configuration (force_upcast) stays in float32. offload: the networks wait in the
    computer's memory and take turns on the device, which changes memory alone. What was adapted is in `.notes`.
    Raises FileNotFoundError for a missing folder or download, ValueError for a folder that is no such model, for
    damaged, pickled, missing or non-finite weights, and for an unknown device or dtype.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    folder = find_folder(source, embedded="image", check=inspect_image)
    contents, settings = inspect_image(folder), read_settings(folder)
    scheduler = load_scheduler(folder, "DDIMScheduler", contents.configs["scheduler"] | DDIM)
    tokenizers = {
        reader: _load_tokenizer(folder, reader, contents.configs[part].get("vocab_size", CLIP_WORDS))
        for part, reader in TEXTS.items()
        if part in contents.classes
    }
    parts, notes = load_networks(folder, contents, dtype, device, offload=offload)
    if (own := contents.configs["scheduler"].get("_class_name")) != "DDIMScheduler":
        notes.append(f"scheduler: DDIM in place of {own}, with the same noise schedule")
    parts |= {**tokenizers, "scheduler": scheduler, "offload_device": device if offload else None}
    return ImageModel(**parts, name=str(source), notes=notes, settings=settings)


@torch.inference_mode(False)
def load_video_model(
    source: str | os.PathLike = "embedded",
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    reverse: str | os.PathLike | None = "auto",
    offload: bool = False,
) -> VideoModel:
    """Load an image-to-video model: spatio-temporal U-Net, temporal-decoder VAE, CLIP vision tower, Euler scheduler.

    source, device, dtype, offload: as in `load_image_model`; "embedded" is data/models/video. reverse: backward-motion
    deltas of `fit_backward_motion`: a file, None, or "auto": those that lie in the model's folder (reverse.safetensors,
    no_rotation.safetensors), as the embedded model's do. Raises what `load_image_model` does, FileNotFoundError for
    missing deltas, and ValueError for deltas of another architecture.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    if not isinstance(reverse, (str, os.PathLike, type(None))):
        raise ValueError(f"reverse={reverse!r} is no path: give a file that fit_backward_motion has saved, or None.")
    if reverse not in (None, "auto") and not os.path.isfile(reverse):
        raise FileNotFoundError(f"The deltas {reverse} do not exist: give a file that fit_backward_motion has saved.")
    folder = find_folder(source, embedded="video", check=inspect_video)
    contents, settings = inspect_video(folder), read_settings(folder)
    scheduler = load_scheduler(folder, "EulerDiscreteScheduler", contents.configs["scheduler"])
    path = folder / "feature_extractor" / "preprocessor_config.json"
    config = read_json(path) if path.is_file() else {}
    normalise = config.get("image_mean", list(CLIP_MEAN)), config.get("image_std", list(CLIP_STD))
    networks, notes = load_networks(folder, contents, dtype, device, offload=offload)
    parts = {**networks, "scheduler": scheduler, "offload_device": device if offload else None}
    model = VideoModel(**parts, normalise=normalise, name=str(source), notes=notes, settings=settings)
    if reverse == "auto":
        own = [path if (path := folder / file).is_file() else None for file in (REVERSE, NO_ROTATION)]
        model.reverse, model.no_rotation = (path and load_deltas(path, model.unet) for path in own)
    elif reverse is not None:
        deltas = load_deltas(reverse, model.unet)
        setattr(model, "no_rotation" if any(".to_q." in key for key in deltas) else "reverse", deltas)
    return model


@contextmanager
def _loading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file or configuration sets off, which is not foreseeable, into one sentence."""
    try:
        yield
    except Exception as error:  # the parser in Rust raises Exception itself
        reason = f"{path} {what} ({first_line(error)})"
        way = "a file is missing, damaged or of another model, so copy or download it again"
        raise ValueError(f"{reason}: {way}.") from None


def load_scheduler(folder: Path, name: str, config: dict[str, Any]) -> Any:
    """Return diffusers' scheduler of this name; ValueError unless the configuration is a noise schedule."""
    import diffusers

    with _loading(folder / "scheduler" / "scheduler_config.json", "gives no noise schedule"):
        scheduler = getattr(diffusers, name).from_config(config)
        a = scheduler.alphas_cumprod
        if not bool(((a >= 0) & (a < 1)).all()):
            raise ValueError("alphas beyond (0, 1)")
    return scheduler


def _load_tokenizer(folder: Path, part: str, words: int) -> Any:
    """Return a tokenizer; words: how many tokens its text encoder knows."""
    from transformers import CLIPTokenizer

    with _loading(folder / part, "cannot be loaded"):
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder=part, local_files_only=True)
        tokenizer("a")
        if len(tokenizer) > words:
            raise ValueError(f"it has {len(tokenizer)} tokens and the text encoder {words}")
    return tokenizer


def load_networks(
    folder: Path, contents: Contents, dtype: torch.dtype, device: torch.device, *, offload: bool
) -> tuple[dict[str, Any], list[str]]:
    """Load all networks, in eval mode and frozen; return part -> network, and notes.

    Every part gets `dtype`, but an autoencoder that overflows in float16, by its own configuration, float32.
    offload: the networks take turns on the device. Raises ValueError for weights that are absent or not finite.
    """
    networks, notes = {}, []
    for part, name in contents.classes.items():
        upcast = part == "vae" and dtype == torch.float16 and contents.configs[part].get("force_upcast")
        with _loading(folder / part, f"cannot be loaded as {name}"):
            variant = None if has_weights(folder / part) else "fp16"
            if not has_weights(folder / part, variant):
                raise ValueError("no safetensors weights; pickled ones can run code and are not opened")
            network = _load_network(folder, part, name, torch.float32 if upcast else dtype, variant)
        notes += ["vae: kept in float32, because it overflows in float16 (force_upcast)"] if upcast else []
        notes += [f"{part}: only fp16 weights there"] if variant else []
        networks[part] = network.eval().requires_grad_(False).to("cpu" if offload else device)
    for module in (m for network in networks.values() for m in network.modules() if device.type != "mps"):
        if isinstance(module, torch.nn.Conv2d):  # faster in this layout on the CPU and on CUDA
            module.to(memory_format=torch.channels_last)
    if offload:
        take_turns(list(networks.values()), device)
    return networks, notes


def _load_network(folder: Path, part: str, name: str, dtype: torch.dtype, variant: str | None) -> torch.nn.Module:
    import diffusers
    import transformers

    # transformers takes `dtype` where diffusers takes `torch_dtype`; without it transformers keeps the file's own
    library, keyword = (transformers, "dtype") if name.startswith("CLIP") else (diffusers, "torch_dtype")
    options = {keyword: dtype, "variant": variant, "subfolder": part, "output_loading_info": True}
    with quiet():
        network, info = getattr(library, name).from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, **options
        )
    if missing := sorted(map(str, info["missing_keys"])):
        raise ValueError(f"it lacks {len(missing)} weights, {missing[0]} among them")
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"NaN or infinite weights in {key}")
    return network


def take_turns(networks: Sequence[torch.nn.Module], device: torch.device) -> None:
    """Move the networks to the CPU, and each to `device` when it is called, after the others have left it.

    accelerate chains networks in one order, and ours alternate; so every network gets a hook for each of the others.
    diffusers' autoencoders call their hooks in `encode` and `decode` as well.
    """
    handles = [cpu_offload_with_hook(network, device)[1] for network in networks]
    for network in networks:
        for handle in handles:
            if handle.model is not network:
                add_hook_to_module(network, CpuOffload(device, prev_module_hook=handle), append=True)


def video_format(source: str | os.PathLike) -> Format:
    """Return what videos a model makes, from its configuration alone; raises as `load_video_model` does."""
    configs = inspect_video(find_folder(source, embedded="video")).configs
    return Format.of(configs["unet"], configs["vae"])


def load_deltas(path: str | os.PathLike, unet: Any) -> dict[str, Tensor]:
    """Load deltas from a safetensors file, U-Net parameter name -> [out,in] float32 on the U-Net's device.

    They fit every model of one architecture: those tuned on 14 frames carry to the 25-frame model, as in the released
    code. Raises ValueError for a damaged file, names that the U-Net lacks, other shapes, and non-finite values.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        deltas = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): save or copy the deltas again.") from None
    weights = dict(unet.named_parameters())
    wrong = [name for name, value in deltas.items() if name not in weights or weights[name].shape != value.shape]
    if not deltas or wrong:
        what = f"holds {wrong[0]} {list(deltas[wrong[0]].shape)}, which this U-Net lacks" if wrong else "is empty"
        raise ValueError(f"{path} {what}: the deltas belong to another architecture, fit them on this model.")
    for name, value in deltas.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            what = f"NaN or infinite values in {name}, or {value.dtype} is no float"
            raise ValueError(f"{path} has {what}: use another copy of the deltas.")
    return {name: value.float().to(unet.device) for name, value in deltas.items()}
