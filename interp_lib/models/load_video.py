"""`load_video_model`: a Stable-Video-Diffusion-like image-to-video model from a folder in diffusers' format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from interp_lib.models.video_model import CLIP_MEAN, CLIP_STD, Format, VideoModel

PARTS = ("unet", "vae", "image_encoder")
CLASSES = {
    "unet": "UNetSpatioTemporalConditionModel",
    "vae": "AutoencoderKLTemporalDecoder",
    "image_encoder": "CLIPVisionModelWithProjection",
}
REVERSE, NO_ROTATION = "reverse.safetensors", "no_rotation.safetensors"  # beside the embedded model's parts


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

    source: "embedded" (data/models/video of this repository), a local folder in diffusers' format, or a hub name.
    reverse: backward-motion deltas of `fit_backward_motion`: a file, None, or "auto": those that lie in the model's
    folder (reverse.safetensors, no_rotation.safetensors), as the embedded model's do, and none where there are none.
    device, dtype, offload: as in `load_image_model`; in float16 a VAE that says it overflows there stays in float32,
    and noted.
    Raises FileNotFoundError for a missing folder, file or download, ValueError for a folder that is no such model, for
    damaged parts, and for deltas of another architecture.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    folder = find_folder(source, embedded="video", check=_check_video_folder, parts=PARTS)
    variants = [weight_variant(folder, part) for part in PARTS]
    notes = [f"{part}: only fp16 weights there" for part, v in zip(PARTS, variants, strict=True) if v is not None]
    scheduler, normalise = _scheduler(folder), _normalisation(folder)
    if not isinstance(reverse, (str, os.PathLike, type(None))):
        raise ValueError(f"reverse={reverse!r} is no path: give a file that fit_backward_motion has saved, or None.")
    if reverse not in (None, "auto") and not os.path.isfile(reverse):
        raise FileNotFoundError(f"The deltas {reverse} do not exist: give a file that fit_backward_motion has saved.")
    vae_dtype = dtype
    if dtype == torch.float16 and read_json(folder / "vae" / "config.json", "model folder").get("force_upcast"):
        vae_dtype = torch.float32
        notes.append("vae: kept in float32, because it overflows in float16 (force_upcast)")
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionModelWithProjection

    place = torch.device("cpu") if offload else device
    model = VideoModel(
        unet=load_part(UNetSpatioTemporalConditionModel, folder, "unet", dtype, place),
        vae=load_part(AutoencoderKLTemporalDecoder, folder, "vae", vae_dtype, place),
        image_encoder=load_part(CLIPVisionModelWithProjection, folder, "image_encoder", dtype, place),
        scheduler=scheduler,
        normalise=normalise,
        name=str(source),
        notes=notes,
        settings=read_settings(folder),
    )
    if reverse == "auto":
        found = [path if (path := folder / name).is_file() else None for name in (REVERSE, NO_ROTATION)]
        model.reverse, model.no_rotation = (path and load_deltas(path, model.unet) for path in found)
    elif reverse is not None:
        deltas = load_deltas(reverse, model.unet)
        setattr(model, "no_rotation" if any(".to_q." in name for name in deltas) else "reverse", deltas)
    if offload:
        from interp_lib.models.offload import CpuOffload

        model.turns = CpuOffload((model.unet, model.vae, model.image_encoder), device)
    return model


def video_format(source: str | os.PathLike) -> Format:
    """The videos that a model was made for, from its configuration alone; raises as `load_video_model` does."""
    folder = find_folder(source, embedded="video", check=_check_video_folder, parts=PARTS)
    try:
        return Format.of(*(read_json(folder / part / "config.json", "diffusers model folder") for part in PARTS[:2]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder} does not say what it was made for ({error}): copy it again.") from None


def load_deltas(path: str | os.PathLike, unet: Any) -> dict[str, Tensor]:
    """Deltas of a safetensors file, U-Net parameter name -> [out,in] float32 on the U-Net's device.

    They fit every model of one architecture, so those tuned on 14 frames carry to the 25-frame model (the released code
    does this). Raises ValueError for a damaged file, names that the U-Net lacks, other shapes, and non-finite values.
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
        what = "is empty" if not deltas else f"holds {wrong[0]} {list(deltas[wrong[0]].shape)}, which this U-Net lacks"
        raise ValueError(f"{path} {what}: the deltas belong to another architecture, fit them on this model.")
    if bad := [name for name, value in deltas.items() if not value.is_floating_point()]:
        raise ValueError(f"{path} holds {deltas[bad[0]].dtype} values in {bad[0]}: deltas are floats, save them again.")
    if bad := [name for name, value in deltas.items() if not bool(torch.isfinite(value).all())]:
        raise ValueError(f"{path} has NaN or infinite values in {bad[0]}: use another copy of the deltas.")
    return {name: value.float().to(unet.device) for name, value in deltas.items()}


def _scheduler(folder: Path) -> Any:
    from diffusers import EulerDiscreteScheduler

    path = folder / "scheduler" / "scheduler_config.json"
    config = read_json(path, "scheduler folder")
    try:
        scheduler = EulerDiscreteScheduler.from_config(config)
        scheduler.set_timesteps(4)
    except Exception as error:
        raise ValueError(f"{path} gives no noise schedule ({first_line(error)}): copy the folder again.") from None
    return scheduler


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the vision tower's input; CLIP's own where the folder does not say."""
    path = folder / "feature_extractor" / "preprocessor_config.json"
    config = read_json(path, "feature extractor") if path.is_file() else {}
    values = [config.get("image_mean", list(CLIP_MEAN)), config.get("image_std", list(CLIP_STD))]
    for value in values:
        if not (isinstance(value, list) and len(value) == 3 and all(isinstance(x, (int, float)) for x in value)):
            raise ValueError(f"{path} has no three numbers in image_mean and image_std: copy the folder again.")
    return values[0], values[1]


def _check_video_folder(folder: Path) -> None:
    """Every rule that needs the configuration files only."""
    index = read_json(folder / "model_index.json", "diffusers model folder")
    classes = {part: entry[1] for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    if classes.get("unet") == "UNet2DConditionModel":
        raise ValueError(f"{folder} holds an image model ({index.get('_class_name')}): load it with load_image_model.")
    if wrong := [part for part, name in CLASSES.items() if classes.get(part) != name]:
        raise ValueError(
            f"{folder} holds a {index.get('_class_name')}: a model like Stable Video Diffusion is needed, whose "
            f"{wrong[0]} is a {CLASSES[wrong[0]]}."
        )
    for part in (*PARTS, "scheduler"):
        if not (folder / part).is_dir():
            raise ValueError(f"{folder} has no folder {part}: copy the whole model folder.")
    unet, vae, tower = (read_json(folder / part / "config.json", "diffusers model folder") for part in PARTS)
    for name in ("sample_size", "num_frames"):
        value = unet.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{folder / 'unet' / 'config.json'} has {name}={value!r}: one whole number is needed.")
    if unet.get("in_channels", 8) != 2 * vae.get("latent_channels", 4):
        raise ValueError(
            f"{folder / 'unet'} takes {unet.get('in_channels', 8)} channels, not twice the VAE's "
            f"{vae.get('latent_channels', 4)}: use an image-to-video model."
        )
    if unet.get("cross_attention_dim", 1024) != tower.get("projection_dim", 512):
        raise ValueError(f"{folder / 'unet'} does not fit its image encoder: use the parts of one model.")
    kind = read_json(folder / "scheduler" / "scheduler_config.json", "scheduler folder").get("prediction_type")
    if kind != "v_prediction":
        raise ValueError(f"{folder} predicts {kind!r}: a video model that predicts v is needed.")
