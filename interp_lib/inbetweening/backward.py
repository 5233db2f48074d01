"""The backward-motion fine-tune: to_v and to_out of temporal self-attention adapt to rotated maps (Alg. 1)."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
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


@dataclass
class BackwardMotion:
    """The result of the fine-tune. deltas: U-Net parameter name -> what is added to it, float32. losses: one a step."""

    deltas: dict[str, Tensor]
    losses: list[float] = field(default_factory=list)

    def save(self, path: str | os.PathLike, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write the deltas, and nothing else, as safetensors; the file is complete or absent."""
        from safetensors.torch import save_file

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
    save_every: int = 50,
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
    checkpoint: a file that is written every `save_every` steps and continued from when it exists. Batches are functions
        of (seed, step), so a run that was killed ends with the same bits.
    gradient_checkpointing: less memory, the same values; None turns it on for large clips, such as SVD's.
    Under `accelerate launch` every process takes `batch` clips of its own, and gradients are averaged.

    The model is left as it was: `model.reverse = fit_backward_motion(...).deltas` puts the result to use.
    Raises ValueError for clips that do not fit the model or each other, and for a checkpoint of another run.
    """
    check_video_model(model)
    steps, batch = check_int("steps", steps, 1), check_int("batch", batch, 1)
    if model.offload_device is not None:
        raise ValueError("a model with offload=True cannot be tuned, its networks move: load it without.")
    frames = check_clips(model, clips)
    if gradient_checkpointing is None:  # by the work from which `VideoModel.low_memory` saves memory
        pixels = batch * frames[0][:, 0].numel() // model.vae_factor**2
        gradient_checkpointing = pixels * model.unet.config.block_out_channels[0] ** 2 > LARGE
    lr, seed = check_number("lr", lr, 0, above=True), check_int("seed", seed, 0, SEEDS)
    save_every = check_int("save_every", save_every, 1)
    for name, value in (("fps", fps), ("noise_aug_strength", noise_aug_strength)):
        check_number(name, value, 0)
    check_switch("rotate", rotate)
    try:
        buckets = torch.as_tensor(motion_bucket_id, dtype=torch.float32).expand(len(frames))
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"motion_bucket_id: give one number, or one for each of the {len(frames)} clips.") from None
    if not isinstance(log_sigma, (tuple, list)) or len(log_sigma) != 2:
        raise ValueError(f"log_sigma={log_sigma!r}: give a mean and a standard deviation, such as {LOG_SIGMA}.")
    log_sigma = check_number("log_sigma[0]", log_sigma[0]), check_number("log_sigma[1]", log_sigma[1], 0)
    if checkpoint is not None and not os.path.exists(checkpoint):
        check_target(Path(checkpoint))
    settings = {"lr": lr, "rotate": rotate, "seed": seed, "batch": batch, "log_sigma": list(log_sigma), "fps": fps}
    settings |= {"noise": noise_aug_strength, "buckets": buckets.tolist(), "clips": digest(frames)}
    base = {  # what learns; in float32, since half precision would lose updates of 1e-4
        f"{name}.{p}.weight": attn.get_submodule(p).weight.detach().float()
        for name, attn in temporal_attentions(model.unet).items()
        for p in (PROJECTIONS[2:] if rotate else PROJECTIONS)
    }
    masters = {name: value.clone().requires_grad_() for name, value in base.items()}
    optimizer = torch.optim.AdamW(masters.values(), lr=lr, weight_decay=1e-2)
    # gradients of float16 layers vanish unscaled; from the usual 2**16 on, the first steps would overflow and be lost
    scaler = torch.amp.GradScaler(model.device.type, init_scale=2.0**10, enabled=model.dtype == torch.float16)
    first, losses = _resume(checkpoint, masters, optimizer, scaler, settings)
    rank, world = _processes(model.device)
    with model.lock, _checkpointing(model.unet, gradient_checkpointing):
        latents = torch.cat([model.encode(clip) for clip in tqdm(frames, desc="encoding clips", disable=not progress)])
        bar = tqdm(range(first, steps), initial=first, total=steps, desc="backward motion", disable=not progress)
        for step in bar:
            generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + rank)
            picks = torch.randint(len(frames), (batch,), generator=generator).tolist()
            keyframes = [torch.stack([frames[i][k] for i in picks]) for k in (0, -1)]
            conditioning = (fps, buckets[picks], noise_aug_strength)
            deltas = {name: masters[name] - base[name] for name in masters}
            loss = backward_loss(
                model, latents[picks], keyframes, conditioning, deltas, generator, log_sigma, rotate=rotate
            )
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise ValueError(f"the loss is {losses[-1]} at step {step}: lower lr, or use bfloat16 or float32.")
            bar.set_postfix(loss=f"{fmean(losses[-50:]):.4f}", refresh=False)  # a single step's loss is mostly noise
            _descend(loss, list(masters.values()), optimizer, scaler, world)
            if checkpoint is not None and rank == 0 and ((step + 1) % save_every == 0 or step + 1 == steps):
                state = {"masters": {name: value.detach() for name, value in masters.items()}, "losses": losses}
                state |= {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
                with atomic_write(Path(checkpoint)) as partial:
                    torch.save(state | {"step": step + 1, "settings": settings}, partial)
    return BackwardMotion({name: (masters[name] - base[name]).detach() for name in masters}, losses)


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
    fps, bucket, strength = conditioning
    draws = {"generator": generator}
    noise = torch.randn(clean.shape, **draws).to(clean)
    sigma = (log_sigma[0] + log_sigma[1] * torch.randn(len(clean), **draws)).exp().to(clean)
    on_image = torch.randn(keyframes[0].shape, **draws)
    micro = micro_conditioning(fps, bucket, strength)
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
        with rotate_temporal_attention(model.unet, maps, deltas=deltas):
            v = predict(flipped, keyframes[1])
    else:
        with tune_temporal_attention(model.unet, deltas):
            v = predict(flipped, keyframes[1])
    return F.mse_loss(v, v_target(clean.flip(1), flipped, level))


@contextmanager
def _checkpointing(unet: Any, on: bool) -> Iterator[None]:
    """Switch gradient checkpointing on within the block, if asked to, and back to what it was."""
    change = on and not unet.is_gradient_checkpointing
    if change:
        unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if change:
            unet.disable_gradient_checkpointing()


def _descend(loss: Tensor, masters: list[Tensor], optimizer: Any, scaler: Any, world: int) -> None:
    """Take one step of the optimiser, with the gradients of all processes averaged and clipped at 1."""
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if world > 1:
        for master in masters:
            torch.distributed.all_reduce(master.grad)
            master.grad /= world
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(masters, 1.0)
    scaler.step(optimizer)
    scaler.update()


def _processes(device: torch.device) -> tuple[int, int]:
    """Return (rank, number of processes) of a run under `accelerate launch`, (0, 1) otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")  # without it, processes on the CPU do not find each other
    return state.process_index, state.num_processes


def _resume(
    path: Any, masters: dict[str, Tensor], optimizer: Any, scaler: Any, settings: dict[str, Any]
) -> tuple[int, list[float]]:
    """Restore a run from its checkpoint, if there is one; return the step and the losses to continue from."""
    if path is None or not Path(path).exists():
        return 0, []
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        other = [name for name, value in settings.items() if saved["settings"].get(name) != value]
        if saved["masters"].keys() != masters.keys():
            other.append("the layers")
    except Exception as error:  # what a damaged file sets off is not foreseeable
        raise ValueError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): remove it.") from None
    if other:
        what = ", ".join(other)
        raise ValueError(f"{path} is the checkpoint of another fine-tune ({what} differ): remove or rename it.")
    with torch.no_grad():
        for name, value in saved["masters"].items():
            masters[name].copy_(value)
    optimizer.load_state_dict(saved["optimizer"])
    scaler.load_state_dict(saved["scaler"])
    return saved["step"], saved["losses"]
