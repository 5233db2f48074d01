"""Find a model folder in diffusers' format, in a folder of yours or on the hub, and read its small files."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "models"  # in the repository, next to the package
# Names of weights, in one file or in shards, of diffusers and of transformers, by their variant
WEIGHTS = {
    None: ("*model.safetensors", "*model-*.safetensors"),
    "fp16": ("*model.fp16.safetensors", "*model.fp16-*.safetensors"),
}
_CONFIGS = ["model_index.json", "settings.json", "*/*.json", "*/*.txt"]
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CHOICES = "give 'embedded', a diffusers model folder, or a hub name such as 'owner/name'"


def find_folder(source: str | os.PathLike, *, embedded: str, check: Callable[[Path], Any] | None = None) -> Path:
    """Find the folder of a model: the embedded one, a local one, or a download from the Hugging Face hub.

    check: called with what has been downloaded before the weights of its `.classes` are. Raises FileNotFoundError for
    what does not exist or cannot be fetched, ValueError for what is no folder.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"source is a {type(source).__name__}: {_CHOICES}.")
    folder = EMBEDDED / embedded if str(source) == "embedded" else Path(os.path.expanduser(source))
    if os.path.isdir(folder):
        return folder
    if str(source) == "embedded":
        raise FileNotFoundError(f"The embedded model is not at data/models/{embedded}: make it with `make models`.")
    if os.path.exists(folder):
        way = _CHOICES
        if folder.suffix in (".safetensors", ".ckpt"):
            way = "convert it once with diffusers, StableDiffusionPipeline (or StableDiffusionXLPipeline)"
            way += f'.from_single_file("{source}").save_pretrained("FOLDER"), and give that folder'
        raise ValueError(f"{source} is a file, not a model folder: {way}.")
    if not isinstance(source, str) or not _HUB_NAME.fullmatch(source):
        raise FileNotFoundError(f"The model folder {source} does not exist: {_CHOICES}.")
    folder = _fetch(source, _CONFIGS)
    parts = [] if check is None else check(folder).classes
    for patterns in WEIGHTS.values():  # fp16 only where there is nothing else
        if wanted := [f"{part}/{name}" for part in parts for name in patterns]:
            _fetch(source, wanted)
        parts = [part for part in parts if not has_weights(folder / part)]
    return folder


def _fetch(name: str, patterns: list[str]) -> Path:
    """Download the files of a hub repository, or find them in the cache where there is no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the client raises its own errors, httpx's and the operating system's
        kind = type(error).__name__
        way = f"could not be fetched from the Hugging Face hub ({kind}): check the name and the network, or {_CHOICES}"
        if kind == "GatedRepoError":
            way = f"is gated: accept its licence on huggingface.co/{name}, then log in with `hf auth login`"
        raise FileNotFoundError(f"'{name}' is no folder here and {way}.") from None


def has_weights(folder: Path, variant: str | None = None) -> bool:
    """Return whether the folder of a network holds safetensors files of this variant."""
    return any(any(folder.glob(pattern)) for pattern in WEIGHTS[variant])


def read_json(path: Path) -> dict:
    """Read a JSON file of a model folder; ValueError when it is missing, unreadable or no table of names and values."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is no diffusers model: {path.name} is missing; {_CHOICES}.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({first_line(error)}): copy the model folder again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__} in place of an object: copy the folder again.")
    return content


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the recommendations that a model folder may carry, such as {"steps": 25}."""
    path = folder / "settings.json"
    return read_json(path) if path.is_file() else {}


def first_line(error: Exception) -> str:
    """Shorten an error to one line without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device with its number; "auto" is CUDA, then MPS, then the CPU. ValueError for one that is absent."""
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


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and warnings on unused weights while a network is read."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    before = [(log, log.is_progress_bar_enabled(), log.get_verbosity()) for log in (diffusers_log, transformers_log)]
    try:
        for log, _, _ in before:
            log.disable_progress_bar()
            log.set_verbosity_error()
        yield
    finally:
        for log, bar, level in before:
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()
