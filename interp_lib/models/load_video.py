"""`load_video_model`: a Stable-Video-Diffusion-like image-to-video model from a folder in diffusers' format."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.models.folder import find_folder, pick_device, pick_dtype, read_json, read_settings
from interp_lib.models.layout import inspect_video
from interp_lib.models.load import load_networks, load_scheduler
from interp_lib.models.video_model import CLIP_MEAN, CLIP_STD, Format, VideoModel

REVERSE, NO_ROTATION = "reverse.safetensors", "no_rotation.safetensors"  # next to the embedded model's parts


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

    source, device, dtype, offload: as in `load_image_model`; "embedded" is data/models/video.
    reverse: backward-motion deltas of `fit_backward_motion`: a file, None, or "auto": those that lie in the model's
    folder (reverse.safetensors, no_rotation.safetensors), as the embedded model's do, and none where there are none.
    Raises FileNotFoundError for a missing folder, file or download, ValueError for a folder that is no such model, for
    damaged parts, and for deltas of another architecture.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    folder = find_folder(source, embedded="video", check=inspect_video)
    contents = inspect_video(folder)
    scheduler = load_scheduler(folder, "EulerDiscreteScheduler", contents.configs["scheduler"])
    parts = {"scheduler": scheduler, "normalise": _normalisation(folder), "settings": read_settings(folder)}
    if not isinstance(reverse, (str, os.PathLike, type(None))):
        raise ValueError(f"reverse={reverse!r} is no path: give a file that fit_backward_motion has saved, or None.")
    if reverse not in (None, "auto") and not os.path.isfile(reverse):
        raise FileNotFoundError(f"The deltas {reverse} do not exist: give a file that fit_backward_motion has saved.")
    networks, notes = load_networks(folder, contents, dtype, device, offload=offload)
    model = VideoModel(**networks, **parts, name=str(source), notes=notes, offload_device=device if offload else None)
    if reverse == "auto":
        own = [path if (path := folder / file).is_file() else None for file in (REVERSE, NO_ROTATION)]
        model.reverse, model.no_rotation = (path and load_deltas(path, model.unet) for path in own)
    elif reverse is not None:
        deltas = load_deltas(reverse, model.unet)
        setattr(model, "no_rotation" if any(".to_q." in key for key in deltas) else "reverse", deltas)
    return model


def video_format(source: str | os.PathLike) -> Format:
    """Return what videos a model makes, from its configuration alone; raises as `load_video_model` does."""
    configs = inspect_video(find_folder(source, embedded="video", check=inspect_video)).configs
    return Format.of(configs["unet"], configs["vae"])


def load_deltas(path: str | os.PathLike, unet: Any) -> dict[str, Tensor]:
    """Load deltas from a safetensors file, U-Net parameter name -> [out,in] float32 on the U-Net's device.

    They fit every model of one architecture, so those tuned on 14 frames carry to the 25-frame model (the released code
    does this). Raises ValueError for a damaged file, names that the U-Net lacks, other shapes, and values that are not
    finite floats.
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


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the vision tower's input; CLIP's own where the folder does not say."""
    path = folder / "feature_extractor" / "preprocessor_config.json"
    config = read_json(path) if path.is_file() else {}
    return config.get("image_mean", list(CLIP_MEAN)), config.get("image_std", list(CLIP_STD))
