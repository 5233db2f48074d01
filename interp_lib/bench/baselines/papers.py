"""The two papers' methods, and by their switches every row of the ablations."""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from interp_lib.bench.baselines._frames import keyframes
from interp_lib.bench.baselines.pretrained import raft_flows
from interp_lib.bench.content_hash import content_hash
from interp_lib.dreammover.inputs import LORA, choose_lora
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.images import fit_images
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.image_model import ImageModel
from interp_lib.models.video_model import VideoModel
from interp_lib.types import Interpolation, Pair


def dreammover(
    model: ImageModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    steps: int = 50,
    inversion_steps: int | None = None,
    preset: str = "paper",
    lora: bool | None = None,
    flow: str | tuple[Tensor, Tensor] = "diffusion",
    two_level: bool = True,
    attention: bool = True,
    batch_size: int | None = None,
    scratch: str | None = None,
) -> Interpolation:
    """Run `interpolate` with its arguments; lora, flow, two_level and attention are Table 3's ablations.

    inversion_steps, lora: None is the model's own setting, as everywhere. flow: also "raft", for RAFT's two flows.
    scratch: a folder for the pair's LoRA, where the next row of the ablation finds it; the numbers are the same.
    """
    if scratch and choose_lora(model, lora) is True:
        lora = _shared_lora(model, pair, seed, preset, Path(scratch))
    if flow == "raft":
        flow = raft_flows(*_fitted(model, pair).split(1), device=model.device)
    options = {"preset": preset, "lora": lora, "flow": flow, "two_level": two_level, "attention": attention}
    options |= {"steps": steps, "inversion_steps": inversion_steps, "batch_size": batch_size, "seed": seed}
    options |= {"prompt": pair.caption, "progress": False}
    return _at_pair_size(interpolate(model, pair.image0, pair.image1, frames=frames, **options), pair)


def _fitted(model: ImageModel, pair: Pair) -> Tensor:
    """Return the keyframes [2,3,H,W] as `interpolate` crops them."""
    return fit_images(keyframes(pair), multiple=model.multiple)[0]


def _shared_lora(model: ImageModel, pair: Pair, seed: int, preset: str, folder: Path) -> Path:
    """Return the file of the LoRA that `interpolate` would fit, fitted where it is not there yet."""
    images = _fitted(model, pair)
    path = folder / f"{content_hash(images, pair.caption, seed, preset)}.safetensors"
    if not path.is_file():
        steps, lr, _ = LORA[preset]
        with fit_lora(model, images, prompt=pair.caption, steps=steps, lr=lr, seed=seed, progress=False) as fitted:
            fitted.save(path)
    return path


def generative_inbetweening(
    model: VideoModel,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    method: str,
    steps: int | None = None,
    recurrence: int | None = None,
) -> Interpolation:
    """Run `inbetween`, by one of its methods; steps, recurrence: None is the model's own setting.

    The first and the last frame are what the model makes of the keyframes, as in the paper's videos.
    """
    options = {"method": method, "steps": steps, "recurrence": recurrence, "seed": seed, "progress": False}
    return _at_pair_size(inbetween(model, pair.image0, pair.image1, frames=frames + 2, **options), pair)


def _at_pair_size(result: Interpolation, pair: Pair) -> Interpolation:
    """Return the result on the CPU and at the pair's size, which the model may have cropped or scaled; noted."""
    frames, size = result.frames.float().cpu(), tuple(pair.image0.shape[-2:])
    if tuple(frames.shape[-2:]) != size:
        height, width = frames.shape[-2:]
        result.notes.append(f"frames of {width}x{height} pixels were scaled back to the pair's size.")
        frames = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    result.frames = frames
    return result
