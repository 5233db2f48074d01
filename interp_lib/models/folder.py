"""Find a model folder in diffusers' format and check it before any weight is read; safetensors only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "models"  # beside the package, in the repository
STEMS = {"text_encoder": "model", "image_encoder": "model"}  # transformers' file name; diffusers has another
_STEM = "diffusion_pytorch_model"
_CONFIGS = ["model_index.json", "settings.json", "*/*.json", "*/*.txt"]
_PICKLED = "pickled ones can run code when they are opened"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WAY_OUT = "give 'embedded', a diffusers model folder, or a hub name such as 'owner/name'"


def find_folder(source: str | os.PathLike, *, embedded: str, check: Any = None, parts: tuple[str, ...] = ()) -> Path:
    """The folder of a model: the embedded one, a local one, or a download from the Hugging Face hub.

    `check(folder)` is called when the configuration files are there, so before the weights of `parts` are downloaded.
    Raises FileNotFoundError for what is not there or cannot be fetched, ValueError for what is no folder.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"source is a {type(source).__name__}: {_WAY_OUT}.")
    if str(source) == "embedded":
        folder = EMBEDDED / embedded
        if not folder.is_dir():
            raise FileNotFoundError(f"The embedded model is not at data/models/{embedded}: make it with `make models`.")
    else:
        folder = Path(os.path.expanduser(source))  # (Path.expanduser raises for an unknown user)
    if os.path.isdir(folder):
        if check is not None:
            check(folder)
        return folder
    if os.path.exists(folder):
        raise ValueError(f"{source} is a file, not a model folder: {_WAY_OUT}.")
    if isinstance(source, str) and _HUB_NAME.fullmatch(source):
        return _from_hub(source, check, parts)
    raise FileNotFoundError(f"The model folder {source} does not exist: {_WAY_OUT}.")


def read_json(path: Path, what: str) -> dict:
    """A JSON file of a model folder; ValueError when it is missing, unreadable or no table of names and values."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is no {what}: {path.name} is missing; {_WAY_OUT}.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({first_line(error)}): copy the model folder again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__} in place of an object: copy the folder again.")
    return content


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what a model folder recommends for arguments that are None (settings.json); {} where it says nothing."""
    path = folder / "settings.json"
    return read_json(path, "file of settings") if path.is_file() else {}


def first_line(error: Exception) -> str:
    """What an error says, brought to one line without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def weight_variant(folder: Path, part: str) -> str | None:
    """Which safetensors files a part has: None for the plain ones, "fp16" when only that variant exists.

    Raises ValueError when there are only pickled weights, none at all, or a file is missing or was cut short.
    """
    from safetensors import SafetensorError, safe_open

    stem = STEMS.get(part, _STEM)
    variants = ((None, _weight_files(folder, part, "")), ("fp16", _weight_files(folder, part, ".fp16")))
    found = [(variant, files) for variant, files in variants if files]
    if found:
        variant, files = next((f for f in found if _all_there(f[1])), found[0])
        for file in files:
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{file} is missing or damaged ({error}): copy or download it again.") from None
        return variant
    pickled = [f for end in ("*.bin", "*.ckpt", "*.pt", "*.pth") for f in (folder / part).glob(end)]
    if pickled:
        raise ValueError(
            f"{folder / part} has only pickled weights ({pickled[0].name}; {_PICKLED}): "
            "save the model again with safe_serialization=True and load the safetensors file."
        )
    raise ValueError(f"{folder / part} has no weights: {stem}.safetensors is missing; copy the whole model folder.")


def load_part(cls: Any, folder: Path, part: str, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """One network of the folder, in eval mode and frozen, with every weight read from the file and finite."""
    # transformers takes `dtype` where diffusers takes `torch_dtype`; without it transformers keeps the file's own
    keyword = "dtype" if cls.__module__.startswith("transformers") else "torch_dtype"
    options = {keyword: dtype, "variant": weight_variant(folder, part), "use_safetensors": True}
    try:
        with quiet():
            network, info = cls.from_pretrained(
                str(folder), subfolder=part, local_files_only=True, output_loading_info=True, **options
            )
    except Exception as error:  # what a damaged configuration sets off is not foreseeable
        raise ValueError(f"{folder / part} cannot be loaded as {cls.__name__}: {first_line(error)}.") from None
    missing = sorted(map(str, info["missing_keys"]))
    if missing:
        raise ValueError(
            f"{folder / part} lacks {len(missing)} weights that its config.json asks for, {missing[0]} among them: "
            "copy the whole model folder again."
        )
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{folder / part} has NaN or infinite weights in {name}: use another copy of the model.")
    network.to(device)
    for module in network.modules() if device.type != "mps" else ():
        if isinstance(module, torch.nn.Conv2d):  # faster in this layout on the CPU and on CUDA
            module.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def pick_device(device: str | torch.device) -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU; ValueError for a name torch does not know or hardware that is absent."""
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError):
        raise ValueError(f"device={device!r} cannot be used here: give 'auto', 'cpu', 'cuda' or 'mps'.") from None
    return device


def pick_dtype(dtype: torch.dtype | None, device: torch.device) -> torch.dtype:
    """None is float16 on CUDA and float32 elsewhere."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={dtype!r} is not usable: give torch.float32, torch.float16, torch.bfloat16 or None.")
    return dtype


def _endings(middle: str) -> tuple[str, str]:
    return f"{middle}.safetensors", f".safetensors.index{middle}.json"


def _weight_files(folder: Path, part: str, middle: str) -> list[Path]:
    """The safetensors files of one variant of a part, or all that its index names, there or not; [] without either."""
    single, index = (folder / part / f"{STEMS.get(part, _STEM)}{end}" for end in _endings(middle))
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    names = read_json(index, "diffusers model folder").get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} names no files in its weight_map: copy the model folder again.")
    for name in set(names.values()):
        if Path(name).name != name:  # weights lie beside their index, nowhere else
            raise ValueError(f"{index} names {name!r} in its weight_map, which is no file beside it: copy it again.")
    return [folder / part / name for name in sorted(set(names.values()))]


def _has_weights(folder: Path, part: str) -> bool:
    """Whether one variant is there with every file, so that nothing needs to be downloaded."""
    return any(_all_there(_weight_files(folder, part, middle)) for middle in ("", ".fp16"))


def _all_there(files: list[Path]) -> bool:
    return bool(files) and all(file.is_file() for file in files)


def _from_hub(name: str, check: Any, parts: tuple[str, ...]) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    folder = Path(_fetch(name, lambda: snapshot_download(name, allow_patterns=_CONFIGS)))
    if check is not None:
        check(folder)
    if all(_has_weights(folder, part) for part in parts):
        return folder  # in the cache, so that a machine without network can go on
    files = _fetch(name, lambda: HfApi().list_repo_files(name))
    wanted = _CONFIGS + [pattern for part in parts for pattern in _weights_of(name, files, part)]
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
            f"check the name and the network, or {_WAY_OUT}."
        ) from None


def _weights_of(name: str, files: list[str], part: str) -> list[str]:
    """One set of safetensors files of a part: the plain one where there is one, else the fp16 variant."""
    stem = f"{part}/{STEMS.get(part, _STEM)}"
    if any(f"{stem}{end}" in files for end in _endings("")):
        return [f"{stem}.safetensors", f"{stem}-*.safetensors"]
    if any(f"{stem}{end}" in files for end in _endings(".fp16")):
        return [f"{stem}.fp16*.safetensors"]
    raise ValueError(f"'{name}' has no safetensors weights in {part} ({_PICKLED}): choose a repository that has.")


@contextmanager
def quiet():
    """No progress bars and no warnings on unused weights while a network is read."""
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
