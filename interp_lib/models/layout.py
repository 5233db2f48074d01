"""What the folder of an image or a video model must hold, checked on its configuration files before any weights."""

from pathlib import Path
from typing import Any, NamedTuple

from interp_lib.models.folder import read_json

# Network -> its class. The U-Net comes last: it is the largest, and what is wrong with the others shows sooner.
SD = {"vae": "AutoencoderKL", "text_encoder": "CLIPTextModel", "unet": "UNet2DConditionModel"}
SDXL = {"text_encoder_2": "CLIPTextModelWithProjection", **SD}
SVD = {
    "vae": "AutoencoderKLTemporalDecoder",
    "image_encoder": "CLIPVisionModelWithProjection",
    "unet": "UNetSpatioTemporalConditionModel",
}
ALIKE = {"AutoencoderTiny": "AutoencoderKL"}  # a class that does for another
TEXTS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


class Contents(NamedTuple):
    """What a folder holds. classes: network -> class name; configs: network or "scheduler" -> its configuration."""

    classes: dict[str, str]
    configs: dict[str, dict[str, Any]]


def inspect_image(folder: Path) -> Contents:
    """Return what the folder of an image model holds; ValueError, in one sentence, for what will not do."""
    classes, pipeline = _listed(folder)
    if classes.get("unet") == SVD["unet"] or "Video" in pipeline:
        raise ValueError(f"{folder} holds a video model ({pipeline}): load it with load_video_model.")
    is_xl = "text_encoder_2" in classes
    like, needed = ("the base of Stable Diffusion XL", SDXL) if is_xl else ("Stable Diffusion 1.5", SD)
    contents = _inspect(folder, like, needed, ("epsilon", "v_prediction"))
    unet, vae, text = (contents.configs[part] for part in ("unet", "vae", "text_encoder"))
    _whole(folder, unet, "sample_size")
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise ValueError(
            f"{folder / 'unet'} takes {unet.get('in_channels', 4)} channels and the VAE makes "
            f"{vae.get('latent_channels', 4)}: use a text-to-image model, not one for inpainting or editing."
        )
    wanted = (text.get("hidden_size"), None, None)
    if is_xl:
        second = contents.configs["text_encoder_2"]
        width = _whole(folder, text, "hidden_size") + _whole(folder, second, "hidden_size")
        sizes = 6 * _whole(folder, unet, "addition_time_embed_dim")  # the refiner is conditioned on five
        wanted = (width, "text_time", sizes + _whole(folder, second, "projection_dim"))
    names = ("cross_attention_dim", "addition_embed_type", "projection_class_embeddings_input_dim")
    if tuple(map(unet.get, names)) != wanted:
        raise ValueError(
            f"{folder / 'unet'} is not conditioned on its text encoders as Stable Diffusion 1.5 or the base of SDXL "
            "is (the refiner is not): use the parts of one such model."
        )
    return contents


def inspect_video(folder: Path) -> Contents:
    """Return what the folder of a video model holds; raises as `inspect_image` does."""
    classes, pipeline = _listed(folder)
    if classes.get("unet") == SD["unet"]:
        raise ValueError(f"{folder} holds an image model ({pipeline}): load it with load_image_model.")
    contents = _inspect(folder, "Stable Video Diffusion", SVD, ("v_prediction",))
    unet, vae, tower = (contents.configs[part] for part in ("unet", "vae", "image_encoder"))
    _whole(folder, unet, "sample_size"), _whole(folder, unet, "num_frames")
    if unet.get("in_channels", 8) != 2 * vae.get("latent_channels", 4):
        raise ValueError(
            f"{folder / 'unet'} takes {unet.get('in_channels', 8)} channels, not twice the VAE's "
            f"{vae.get('latent_channels', 4)}: use an image-to-video model."
        )
    if unet.get("cross_attention_dim", 1024) != tower.get("projection_dim", 512):
        raise ValueError(f"{folder / 'unet'} does not fit its image encoder: use the parts of one model.")
    return contents


def _listed(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the classes that model_index.json lists, part -> name, and the pipeline's name."""
    index = read_json(folder / "model_index.json")
    entries = {part: entry for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    return {part: name for part, (_, name) in entries.items() if name is not None}, str(index.get("_class_name"))


def _inspect(folder: Path, like: str, needed: dict[str, str], predicts: tuple[str, ...]) -> Contents:
    """Check classes, files and what the U-Net predicts. like: the best known model of the kind."""
    listed, pipeline = _listed(folder)
    for part, name in needed.items():
        own = listed.get(part)
        if name not in (own, ALIKE.get(str(own))):
            raise ValueError(f"{folder} holds a {pipeline}: a model like {like} is needed, whose {part} is a {name}.")
    for part in [TEXTS[part] for part in needed if part in TEXTS]:  # else transformers would make a vocabulary up
        files = {path.name for path in (folder / part).glob("*")}
        if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
            raise ValueError(f"{folder / part} has neither tokenizer.json nor vocab.json with merges.txt: copy it.")
    configs = {part: read_json(folder / part / "config.json") for part in needed}
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    own = configs["scheduler"].get("prediction_type", "epsilon")
    if own not in predicts:
        raise ValueError(f"{folder} predicts {own!r}: a model that predicts {' or '.join(predicts)} is needed.")
    return Contents({part: listed[part] for part in needed}, configs)


def _whole(folder: Path, config: dict[str, Any], name: str) -> int:
    if not isinstance(value := config.get(name), int):
        raise ValueError(f"A configuration in {folder} has {name}={value!r}: one whole number is needed.")
    return value
