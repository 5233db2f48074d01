"""The backward-motion fine-tune: to_v and to_out of temporal self-attention adapt to rotated maps (Alg. 1)."""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int, check_number, check_switch
from interp_lib.files import atomic_write, check_target
from interp_lib.inbetweening.clips import check_clips, digest
from interp_lib.inbetweening.sampling import v_target
from interp_lib.inbetweening.temporal import (
    PROJECTIONS,
    record_temporal_attention,
    rotate_temporal_attention,
    temporal_attentions,
    tune_temporal_attention,
)
from interp_lib.memory import memory_advice
from interp_lib.models.video_model import LARGE, VideoModel, check_video_model, micro_conditioning

LOG_SIGMA = (0.7, 1.6)  # mean and standard deviation of log sigma, as SVD was trained
SEEDS = 10**11  # largest seed: with the step and the process it makes the 64 bits that a generator takes
SAVE_EVERY = 50  # steps from one checkpoint to the next


@dataclass
class BackwardMotion:
    """The result of the fine-tune. deltas: U-Net parameter name -> what is added to it, float32. losses: one a step."""

    deltas: dict[str, Tensor]
    losses: list[float] = field(default_factory=list)

    def save(self, path: str | os.PathLike, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write the deltas, and nothing else, as safetensors; the file is complete or absent."""
        with atomic_write(Path(path)) as partial:
            save_file({name: value.to("cpu", dtype).contiguous() for name, value in self.deltas.items()}, partial)
        return Path(path)


@memory_advice("use shorter or smaller clips, a smaller batch, or gradient_checkpointing=True")
def fit_backward_motion(
    model: VideoModel,
    clips: Tensor | Sequence[Tensor],
    *,
    steps: int,
    lr: float = 1e-4,
    rotate: bool = True,
    seed: int = 0,
    batch: int = 1,
    fps: float = 7,
    motion_bucket_id: float | Sequence[float] = 127,
    noise_aug_strength: float = 0.02,
    log_sigma: tuple[float, float] = LOG_SIGMA,
    checkpoint: str | os.PathLike | None = None,
    gradient_checkpointing: bool | None = None,
    progress: bool = True,
) -> BackwardMotion:
    """Teach the model to animate an image backwards in time.

    Source: section 4.2, Alg. 1. Each step takes a clip z, a noise level and noise. The frozen model sees the noisy clip
    and its first frame, and its temporal attention maps A are recorded. Then the model with trainable to_v and to_out.0
    sees the flipped noisy clip, its last frame and rot(A), and its v-prediction is compared with the flipped clip.

    clips: [K,N,3,H,W] in [0,1], or K tensors [N,3,H,W] of one shape (`load_clips`, `draw_clips`).
    rotate: False uses no maps, and all four projections learn (the paper's "w/o RA").
    lr: of AdamW with weight decay 0.01; gradients are clipped at 1. batch: clips a step.
    motion_bucket_id: one, or one a clip. log_sigma: mean and standard deviation of the noise levels' logarithm.
    checkpoint: a file that is written every 50 steps and continued from when it exists. Batches are functions of (seed,
        step), so a run that was killed ends with the same bits.
    gradient_checkpointing: less memory, the same values; None turns it on for large clips, such as SVD's.
    Under `accelerate launch` every process takes `batch` clips of its own, and gradients are averaged.

    The model is left as it was: `model.reverse = fit_backward_motion(...).deltas` puts the result to use.
    Raises ValueError for clips that do not fit the model or each other, and for a checkpoint of another run.
    """
    check_video_model(model)
    if model.offload_device is not None:
        raise ValueError("a model with offload=True cannot be tuned, its networks move: load it without.")
    steps, batch, seed = check_int("steps", steps, 1), check_int("batch", batch, 1), check_int("seed", seed, 0, SEEDS)
    lr, fps = check_number("lr", lr, 0, above=True), check_number("fps", fps, 0)
    strength = check_number("noise_aug_strength", noise_aug_strength, 0)
    check_switch("rotate", rotate)
    frames = check_clips(model, clips)
    try:
        buckets = torch.as_tensor(motion_bucket_id, dtype=torch.float32).expand(len(frames))
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"motion_bucket_id: give one number, or one for each of the {len(frames)} clips.") from None
    settings = {"lr": lr, "rotate": rotate, "seed": seed, "batch": batch, "log_sigma": list(log_sigma), "fps": fps}
    settings |= {"noise": strength, "buckets": buckets.tolist(), "clips": digest(frames)}
    tuning, (rank, world) = Tuning(model, rotate, lr), _processes(model.device)
    if checkpoint is not None:
        tuning.resume(Path(checkpoint), settings)
    if gradient_checkpointing is None:  # by the work from which `VideoModel.low_memory` saves memory
        pixels = batch * frames[0][:, 0].numel() // model.vae_factor**2
        gradient_checkpointing = pixels * model.unet.config.block_out_channels[0] ** 2 > LARGE
    with model.lock, ExitStack() as stack:
        if gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
            stack.callback(model.unet.disable_gradient_checkpointing)
        latents = torch.cat([model.encode(clip) for clip in tqdm(frames, desc="encoding clips", disable=not progress)])
        first = len(tuning.losses)
        bar = tqdm(range(first, steps), initial=first, total=steps, desc="backward motion", disable=not progress)
        for step in bar:
            generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + rank)
            picks = torch.randint(len(frames), (batch,), generator=generator).tolist()
            keyframes = [torch.stack([frames[i][k] for i in picks]) for k in (0, -1)]
            conditioning, deltas = (fps, buckets[picks], strength), tuning.deltas()
            loss = backward_loss(
                model, latents[picks], keyframes, conditioning, deltas, generator, log_sigma, rotate=rotate
            )
            tuning.descend(loss, world)
            bar.set_postfix(loss=f"{fmean(tuning.losses[-50:]):.4f}", refresh=False)  # one step's loss is mostly noise
            if checkpoint is not None and rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
                tuning.save(Path(checkpoint), settings)
    return BackwardMotion({name: delta.detach() for name, delta in tuning.deltas().items()}, tuning.losses)


def backward_loss(
    model: VideoModel,
    clean: Tensor,
    keyframes: Sequence[Tensor],
    conditioning: tuple[float, Tensor, float],
    deltas: Mapping[str, Tensor],
    generator: torch.Generator,
    log_sigma: tuple[float, float] = LOG_SIGMA,
    *,
    rotate: bool = True,
) -> Tensor:
    """Compute the error of the backward prediction, differentiable in the deltas (Alg. 1, lines 3 to 8).

    clean: [B,N,C,h,w] scaled latents of clips. keyframes: their first and last frames [B,3,H,W] in [0,1].
    conditioning: (fps, motion bucket [B], strength of the noise on the keyframe).
    """
    strength, micro = conditioning[2], micro_conditioning(*conditioning)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    sigma = (log_sigma[0] + log_sigma[1] * torch.randn(len(clean), generator=generator)).exp().to(clean)
    on_image = torch.randn(keyframes[0].shape, generator=generator)
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = clean + level * noise

    def predict(z: Tensor, image: Tensor) -> Tensor:
        latent, context = model.condition(image, on_image, strength)
        latent = latent[:, None].expand(-1, z.shape[1], -1, -1, -1)
        return model.predict_v(torch.cat([z / (level**2 + 1).sqrt(), latent], 2), 0.25 * sigma.log(), context, micro)

    flipped = noisy.flip(1)
    if rotate:
        with torch.no_grad(), record_temporal_attention(model.unet) as maps:
            predict(noisy, keyframes[0])
        tuned = rotate_temporal_attention(model.unet, maps, deltas=deltas)
    else:
        tuned = tune_temporal_attention(model.unet, deltas)
    with tuned:
        v = predict(flipped, keyframes[1])
    return F.mse_loss(v, v_target(clean.flip(1), flipped, level))


class Tuning:
    """The state of a fine-tune: the weights that learn, their optimiser, and the loss of every step done."""

    def __init__(self, model: VideoModel, rotate: bool, lr: float) -> None:
        self.base = {  # in float32, since half precision would lose updates of 1e-4
            f"{name}.{p}.weight": attn.get_submodule(p).weight.detach().float()
            for name, attn in temporal_attentions(model.unet).items()
            for p in (PROJECTIONS[2:] if rotate else PROJECTIONS)
        }
        self.masters = {name: value.clone().requires_grad_() for name, value in self.base.items()}
        self.losses: list[float] = []
        self.optimizer = torch.optim.AdamW(self.masters.values(), lr=lr, weight_decay=1e-2)
        # gradients of float16 layers vanish unscaled; from the usual 2**16 on, the first steps would overflow, be lost
        half = model.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(model.device.type, init_scale=2.0**10, enabled=half)

    def deltas(self) -> dict[str, Tensor]:
        return {name: weight - self.base[name] for name, weight in self.masters.items()}

    def descend(self, loss: Tensor, world: int) -> None:
        """Take one step of the optimiser, with the gradients of all processes averaged and clipped at 1."""
        self.losses.append(float(loss.detach()))
        if not math.isfinite(self.losses[-1]):
            step = len(self.losses) - 1
            raise ValueError(f"the loss is {self.losses[-1]} at step {step}: lower lr, or use bfloat16 or float32.")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        for weight in self.masters.values() if world > 1 else ():
            torch.distributed.all_reduce(weight.grad)
            weight.grad /= world
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(list(self.masters.values()), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        masters = {name: value.detach() for name, value in self.masters.items()}
        state = {"masters": masters, "losses": self.losses, "settings": settings}
        state |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        with atomic_write(path) as partial:
            torch.save(state, partial)

    def resume(self, path: Path, settings: dict[str, Any]) -> None:
        """Continue a run from its checkpoint; without one, check that it can be written."""
        if not path.exists():
            return check_target(path)
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            other = [name for name, value in settings.items() if saved["settings"].get(name) != value]
            other += ["the layers"] * (saved["masters"].keys() != self.masters.keys())
        except Exception as error:  # what a damaged file sets off is not foreseeable
            raise ValueError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): remove it.") from None
        if other:
            what = ", ".join(other)
            raise ValueError(f"{path} is the checkpoint of another fine-tune ({what} differ): remove or rename it.")
        with torch.no_grad():
            for name, value in saved["masters"].items():
                self.masters[name].copy_(value)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.losses = saved["losses"]


def _processes(device: torch.device) -> tuple[int, int]:
    """Return (rank, number of processes) of a run under `accelerate launch`, (0, 1) otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")  # without it, processes on the CPU do not find each other
    return state.process_index, state.num_processes
