"""Find a model folder in diffusers' format and read its networks: safetensors only, configurations first."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from interp_lib.models.offload import take_turns

EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "models"  # in the repository, next to the package
STEMS = {"text_encoder": "model", "image_encoder": "model"}  # transformers' file name; diffusers has another
_CONFIGS = ["model_index.json", "settings.json", "*/*.json", "*/*.txt"]
_PICKLED = "pickled ones can run code when they are opened"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CHOICES = "give 'embedded', a diffusers model folder, or a hub name such as 'owner/name'"
_SINGLE_FILE = (".safetensors", ".ckpt")


def find_folder(source: str | os.PathLike, *, embedded: str, check: Any = None, parts: tuple[str, ...] = ()) -> Path:
    """Find the folder of a model: the embedded one, a local one, or a download from the Hugging Face hub.

    check(folder) is called once the configuration files are there, before the weights of `parts` are downloaded.
    Raises FileNotFoundError for what does not exist or cannot be fetched, ValueError for what is no folder.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"source is a {type(source).__name__}: {_CHOICES}.")
    folder = EMBEDDED / embedded if str(source) == "embedded" else Path(os.path.expanduser(source))
    if os.path.isdir(folder):
        if check is not None:
            check(folder)
        return folder
    if str(source) == "embedded":
        raise FileNotFoundError(f"The embedded model is not at data/models/{embedded}: make it with `make models`.")
    if os.path.exists(folder):
        way = (
            f'convert it once with diffusers, StableDiffusionPipeline.from_single_file("{source}").save_pretrained('
            '"FOLDER"), and give that folder'
        )
        raise ValueError(
            f"{source} is a file, not a model folder: {way if folder.suffix in _SINGLE_FILE else _CHOICES}."
        )
    if isinstance(source, str) and _HUB_NAME.fullmatch(source):
        return _from_hub(source, check, parts)
    raise FileNotFoundError(f"The model folder {source} does not exist: {_CHOICES}.")


def read_json(path: Path, what: str) -> dict:
    """Read a JSON file of a model folder; ValueError when it is missing, unreadable or no table of names and values."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is no {what}: {path.name} is missing; {_CHOICES}.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({first_line(error)}): copy the model folder again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__} in place of an object: copy the folder again.")
    return content


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the recommendations that a model folder may carry, such as {"steps": 25}."""
    path = folder / "settings.json"
    return read_json(path, "model folder") if path.is_file() else {}


def first_line(error: Exception) -> str:
    """Shorten an error to one line without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def weight_variant(folder: Path, part: str) -> str | None:
    """Choose a part's safetensors files: None for the plain ones, "fp16" where only that variant is complete.

    Raises ValueError when there are only pickled weights, none at all, or a file is missing or was cut short.
    """
    from safetensors import SafetensorError, safe_open

    found = [(variant, files) for variant in (None, "fp16") if (files := _weight_files(folder, part, variant))]
    if found:
        variant, files = next((f for f in found if all(file.is_file() for file in f[1])), found[0])
        for file in files:
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{file} is missing or damaged ({error}): copy or download it again.") from None
        return variant
    if pickled := [f for end in ("*.bin", "*.ckpt", "*.pt", "*.pth") for f in (folder / part).glob(end)]:
        raise ValueError(
            f"{folder / part} has only pickled weights ({pickled[0].name}; {_PICKLED}): "
            "save the model again with safe_serialization=True and load the safetensors file."
        )
    stem = STEMS.get(part, "diffusion_pytorch_model")
    raise ValueError(f"{folder / part} has no weights: {stem}.safetensors is missing; copy the whole model folder.")


def _weight_files(folder: Path, part: str, variant: str | None) -> list[Path]:
    """The safetensors file of one variant, or all that its index names, there or not; [] without either."""
    single, index = (folder / name for name in _weight_names(part, variant))
    if single.is_file() or not index.is_file():
        return [single] if single.is_file() else []
    names = read_json(index, "diffusers model folder").get("weight_map")
    listed = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    # weights lie next to their index, nowhere else
    if not listed or any(Path(name).name != name for name in listed):
        raise ValueError(f"{index} names files in its weight_map that do not lie next to it: copy the folder again.")
    return [folder / part / name for name in listed]


def _weight_names(part: str, variant: str | None) -> tuple[str, str]:
    stem, middle = f"{part}/{STEMS.get(part, 'diffusion_pytorch_model')}", f".{variant}" if variant else ""
    return f"{stem}{middle}.safetensors", f"{stem}.safetensors.index{middle}.json"


def load_parts(
    folder: Path, classes: Mapping[str, Any], dtype: torch.dtype, device: torch.device, *, offload: bool
) -> tuple[dict[str, torch.nn.Module], list[str]]:
    """Load networks, part -> class; return part -> network, in eval mode and frozen, and notes.

    Every part gets `dtype`, but an autoencoder that overflows in float16, by its own configuration, float32.
    offload: the networks take turns on the device. Raises ValueError for weights that are absent or not finite.
    """
    variants = {part: weight_variant(folder, part) for part in classes}  # of all, before the first is read
    notes = [f"{part}: only fp16 weights there" for part, variant in variants.items() if variant is not None]
    dtypes = dict.fromkeys(classes, dtype)
    if dtype == torch.float16 and read_json(folder / "vae" / "config.json", "model folder").get("force_upcast"):
        dtypes["vae"] = torch.float32
        notes.append("vae: kept in float32, because it overflows in float16 (force_upcast)")
    place = torch.device("cpu") if offload else device
    networks = {p: _load_part(cls, folder, p, variants[p], dtypes[p]).to(place) for p, cls in classes.items()}
    for module in (m for network in networks.values() for m in network.modules() if device.type != "mps"):
        if isinstance(module, torch.nn.Conv2d):  # faster in this layout on the CPU and on CUDA
            module.to(memory_format=torch.channels_last)
    if offload:
        take_turns(list(networks.values()), device)
    return networks, notes


def _load_part(cls: Any, folder: Path, part: str, variant: str | None, dtype: torch.dtype) -> torch.nn.Module:
    # transformers takes `dtype` where diffusers takes `torch_dtype`; without it transformers keeps the file's own
    keyword = "dtype" if cls.__module__.startswith("transformers") else "torch_dtype"
    options = {keyword: dtype, "variant": variant, "output_loading_info": True}
    try:
        with quiet():
            network, info = cls.from_pretrained(
                str(folder), subfolder=part, use_safetensors=True, local_files_only=True, **options
            )
    except Exception as error:  # what a damaged configuration sets off is not foreseeable
        raise ValueError(f"{folder / part} cannot be loaded as {cls.__name__}: {first_line(error)}.") from None
    if missing := sorted(map(str, info["missing_keys"])):
        raise ValueError(
            f"{folder / part} lacks {len(missing)} weights that its config.json asks for, {missing[0]} among them: "
            "copy the whole model folder again."
        )
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{folder / part} has NaN or infinite weights in {name}: use another copy of the model.")
    return network.eval().requires_grad_(False)


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device with its number; "auto" is CUDA, then MPS, then the CPU.

    Raises ValueError for a name torch does not know or hardware that is absent.
    """
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, AssertionError, TypeError):
        raise ValueError(f"device={device!r} cannot be used here: give 'auto', 'cpu', 'cuda' or 'mps'.") from None


def pick_dtype(dtype: torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the dtype of the networks; None is float16 on CUDA and float32 elsewhere."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={dtype!r} is not usable: give torch.float32, torch.float16, torch.bfloat16 or None.")
    return dtype


def _from_hub(name: str, check: Any, parts: tuple[str, ...]) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    folder = Path(_fetch(name, lambda: snapshot_download(name, allow_patterns=_CONFIGS)))
    if check is not None:
        check(folder)
    cached = [[_weight_files(folder, part, variant) for variant in (None, "fp16")] for part in parts]
    if all(any(files and all(file.is_file() for file in files) for files in part) for part in cached):
        return folder  # complete in the cache, so that a machine without network can go on
    files, wanted = _fetch(name, lambda: HfApi().list_repo_files(name)), list(_CONFIGS)
    for part in parts:
        variant = next((v for v in (None, "fp16") if any(f in files for f in _weight_names(part, v))), "")
        if variant == "":
            raise ValueError(f"'{name}' has no safetensors weights in {part} ({_PICKLED}): choose another repository.")
        stem = _weight_names(part, variant)[0].removesuffix(".safetensors")
        wanted += [f"{stem}.safetensors", f"{stem}-*.safetensors"]
    return Path(_fetch(name, lambda: snapshot_download(name, allow_patterns=wanted)))


def _fetch(name: str, request: Callable[[], Any]) -> Any:
    try:
        return request()
    except Exception as error:  # the client raises its own errors, httpx's and the operating system's
        if type(error).__name__ == "GatedRepoError":
            raise FileNotFoundError(
                f"'{name}' is gated: accept its licence on huggingface.co/{name}, then log in with `hf auth login`."
            ) from None
        raise FileNotFoundError(
            f"'{name}' is no folder here and could not be fetched from the Hugging Face hub ({type(error).__name__}): "
            f"check the name and the network, or {_CHOICES}."
        ) from None


@contextmanager
def quiet():
    """Silence progress bars and warnings on unused weights while a network is read."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggers = (diffusers_logging, transformers_logging)
    bars = [log.is_progress_bar_enabled() for log in loggers]
    levels = [log.get_verbosity() for log in loggers]
    try:
        for log in loggers:
            log.disable_progress_bar()
            log.set_verbosity_error()
        yield
    finally:
        for log, bar, level in zip(loggers, bars, levels, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()
