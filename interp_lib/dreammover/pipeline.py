"""`interpolate`: DreamMover whole, from two images to the frames between them (paper section 3, Fig. 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_callable, check_choice, check_int, check_switch
from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import PRESETS, Inversion, check_inversion_steps, run_inversion, timesteps
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.fusion import check_levels
from interp_lib.dreammover.lora import Lora, active_lora, check_seed, fit_lora, fused_lora, load_lora
from interp_lib.dreammover.sampler import FrameState, denoise_frames
from interp_lib.images import as_images, fit_images
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image

FLOWS = ("diffusion", "classical", "zero", "raft")
# How the LoRA is fitted, and its strength while generating (it is 1 while inverting).
LORA = {"paper": ({"steps": 80, "lr": 5e-4}, 1.0), "released": ({"steps": 200, "lr": 2e-4}, 0.8)}


def interpolate(
    model: ImageModel,
    image0: Tensor | Image,
    image1: Tensor | Image,
    *,
    frames: int = 32,
    preset: str = "paper",
    two_level: bool = True,
    high: str = "average",
    low: str | None = None,
    attention: bool = True,
    lora: bool | Lora | str | os.PathLike = True,
    fuse_lora: bool | None = None,
    flow: str | tuple[Tensor, Tensor] = "diffusion",
    steps: int = 50,
    inversion_steps: int = 30,
    batch_size: int | None = None,
    seed: int | torch.Generator = 0,
    prompt: str = "",
    endpoints: str = "input",
    feature_step: int | None = None,
    feature_block: int = 1,
    on_step: Callable[[FrameState], None] | None = None,
    progress: bool = True,
) -> Interpolation:
    """The `frames` images between image0 and image1, at times i/(frames+1), with both ends: frames+2 in all.

    Source: section 3 and 4.1; the switches two_level, attention, lora and flow are the ablations of Table 3.
    image0, image1: one image each, of one size; a side that is no multiple of the model's is cropped, and noted.
    preset: "paper" or "released" (what the released code does). lora: fit one (True), use none (False), or one that
    was fitted before, a handle of this model or a path. fuse_lora: add it to the weights for the run (`fused_lora`),
    which changes rounding alone; None does so on a GPU, where it pays. flow: "diffusion", "classical" (block
    matching), "zero", or two tensors (flow01, flow10) [1,2,h,w] in latent pixels or [1,2,H,W] in image pixels.
    high, low: how two-level fusion fuses the clean latents and the noise, see `fuse_two_level`.
    steps, inversion_steps: of the schedule, and where the fusion takes place. batch_size: middle frames per U-Net call
    (None: all); it changes memory, not frames. seed: of the LoRA fit; the rest draws nothing. endpoints: "input" puts
    the images themselves at both ends, "reconstructed" what the model makes of them. feature_step: None is the paper's
    14 of 50.
    on_step: called with the start and with the state after every step (see `denoise_frames`).
    U-Net calls, T = inversion_steps: T + 1 + T * (1 + ceil(frames/batch_size)), plus feature_step - T where the
    features lie beyond T, plus ceil(frames/batch_size) for "released"; without the diffusion flow the features' calls
    (1 and these) fall away.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    schedule = timesteps(model, steps)
    steps, inversion_steps, frames = (
        len(schedule),
        check_inversion_steps(inversion_steps, len(schedule)),
        check_int("frames", frames, 1),
    )
    batch_size = None if batch_size is None else check_int("batch_size", batch_size, 1)
    if feature_step is not None:
        feature_step = check_int("feature_step", feature_step, 1, steps, "steps")
    feature_block = check_int("feature_block", feature_block, 0, len(model.unet.up_blocks) - 1)
    _check(model, preset=preset, endpoints=endpoints, seed=seed, prompt=prompt, flow=flow, lora=lora)
    for name, switch in (("two_level", two_level), ("attention", attention)):
        check_switch(name, switch)
    check_callable("on_step", on_step)
    check_levels(two_level, high, low)
    images, notes, cropped = prepare_images(model, image0, image1)
    given = None if isinstance(flow, str) else _given_flow(flow, images, model, cropped)
    how = {"step": feature_step, "block": feature_block, "prompt": prompt}
    options = {"preset": preset, "two_level": two_level, "high": high, "low": low}
    options |= {"attention": attention, "batch_size": batch_size}
    calls = model.unet_calls
    context = model.embed_text(prompt)
    with _lora_for(model, lora, images, preset, prompt, seed, progress) as handle:
        bar = tqdm(total=inversion_steps, desc="inversion", disable=not progress)
        with _acting(handle, 1.0, fuse_lora):
            inversion = run_inversion(
                model, model.encode(images), context, schedule[:inversion_steps], steps=steps, bar=bar
            )
            flows = given or _flows(model, str(flow), images, inversion, how)
        deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)
        with _acting(handle, LORA[preset][1], fuse_lora):
            states = denoise_frames(model, inversion, *flows, deltas, context, **options)
            for state in tqdm(states, total=inversion_steps + 1, desc="denoising", disable=not progress):
                if on_step is not None:
                    on_step(state)
    return Interpolation(
        frames=_decode(model, state.latents, images, endpoints, progress),
        latents=state.latents,
        flow01=flows[0],
        flow10=flows[1],
        fused_clean=state.fused_clean,
        unet_calls=model.unet_calls - calls,
        notes=notes + cropped,
    )


def _check(model: ImageModel, *, preset: Any, endpoints: Any, seed: Any, prompt: Any, flow: Any, lora: Any) -> None:
    check_choice("preset", preset, PRESETS)
    check_choice("endpoints", endpoints, ("input", "reconstructed"))
    check_seed(seed)
    if not isinstance(prompt, str):
        raise ValueError(f"prompt is a {type(prompt).__name__}: give one string for both images, '' for none.")
    if isinstance(flow, str):
        check_choice("flow", flow, FLOWS)
        if flow == "raft":
            raise ValueError(
                "flow='raft' needs RAFT's weights, which are not part of this library: run RAFT yourself and give "
                "its two flows as flow=(flow01, flow10), each [1,2,H,W] in image pixels."
            )
    if isinstance(lora, Lora):
        if lora.model is not model:
            raise ValueError("lora was fitted to another model object: save it and give its path, or fit it again.")
        lora.layers()
    elif not isinstance(lora, (bool, str, os.PathLike)):
        raise ValueError(f"lora is a {type(lora).__name__}: give True, False, a handle from fit_lora, or a file.")


def prepare_images(
    model: ImageModel, image0: Any, image1: Any, *, size: int | tuple[int, int] | None = None
) -> tuple[Tensor, list[str], list[str]]:
    """Both images as [2,3,H,W] on a size the model takes; what was done when they were read, and to their size.

    size: as in `fit_images`. Raises ValueError for images that are no pair.
    """
    notes: list[str] = []
    pair = [as_images(x, name=f"image{k}", notes=notes) for k, x in enumerate((image0, image1))]
    for k, x in enumerate(pair):
        if len(x) != 1:
            raise ValueError(f"image{k} is a batch of {len(x)}: give one image at each end.")
    if pair[0].shape != pair[1].shape:
        (h0, w0), (h1, w1) = (x.shape[-2:] for x in pair)
        raise ValueError(
            f"image0 is {w0}x{h0} and image1 {w1}x{h1} pixels: bring both to one size, for instance with fit_images."
        )
    images = torch.cat([pair[0], pair[1].to(pair[0].device)])
    if torch.equal(images[0], images[1]):
        raise ValueError("image0 and image1 are identical: there is nothing between them, give two different images.")
    images, cropped = fit_images(images, size=size, multiple=model.multiple)
    return images, notes, cropped


@contextmanager
def _lora_for(
    model: ImageModel, lora: Any, images: Tensor, preset: str, prompt: str, seed: Any, progress: bool
) -> Iterator[Lora | None]:
    """The LoRA asked for, alone on the model; what this run put there goes with it."""
    own = not isinstance(lora, Lora)
    handle = None if own else lora
    try:
        if lora is True:
            handle = fit_lora(model, images, prompt=prompt, seed=seed, progress=progress, **LORA[preset][0])
        elif own and lora is not False:
            handle = load_lora(model, lora)
        with active_lora(model, handle):
            yield handle
    finally:
        if own and handle is not None:
            handle.remove()


@contextmanager
def _acting(lora: Lora | None, factor: float, fuse: bool | None) -> Iterator[None]:
    """While it lasts the LoRA acts `factor` times as strongly as its owner set it, as a part of the weights or beside
    them."""
    if lora is None:
        yield
        return
    strength, fuse = lora.strength, lora.model.device.type == "cuda" if fuse is None else fuse
    try:
        lora.scale(strength * factor)
        with fused_lora(lora.model) if fuse else nullcontext():
            yield
    finally:
        lora.scale(strength)


def _flows(
    model: ImageModel, flow: str, images: Tensor, inversion: Inversion, how: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    z = inversion.latents[0]
    if flow == "zero":
        zero = z.new_zeros(1, 2, *z.shape[-2:])
        return zero, zero.clone()
    if flow == "classical":
        a, b = images[:1].to(z.device), images[1:].to(z.device)
        return block_flow(a, b, factor=model.vae_factor), block_flow(b, a, factor=model.vae_factor)
    return estimate_flow(model, inversion, **how)


def _given_flow(flow: Any, images: Tensor, model: ImageModel, cropped: list[str]) -> tuple[Tensor, Tensor]:
    """Two flows, in latent or in image pixels, as [1,2,h,w] in latent pixels on the model's device."""
    height, width = images.shape[-2:]
    latent = (height // model.vae_factor, width // model.vae_factor)
    alike = f", cut as the images were ({cropped[0]})" if cropped else ""
    if not (isinstance(flow, (tuple, list)) and len(flow) == 2 and all(isinstance(f, Tensor) for f in flow)):
        raise ValueError("flow must be a name or two tensors (flow01, flow10), each [1,2,h,w].")
    out = []
    for name, f in zip(("flow01", "flow10"), flow, strict=True):
        f = (f if f.ndim == 4 else f[None]).detach().float().to(model.device)
        if f.ndim != 4 or f.shape[:2] != (1, 2) or tuple(f.shape[2:]) not in (latent, (height, width)):
            raise ValueError(
                f"{name} has shape {list(f.shape)}: give [1,2,{latent[0]},{latent[1]}] in latent pixels or "
                f"[1,2,{height},{width}] in image pixels{alike}."
            )
        if not bool(torch.isfinite(f).all()):
            raise ValueError(f"{name} contains NaN or infinite values: fill what is unknown, for instance with 0.")
        out.append(f if tuple(f.shape[2:]) == latent else F.interpolate(f, latent, mode="area") / model.vae_factor)
    return out[0], out[1]


def _decode(model: ImageModel, latents: Tensor, images: Tensor, endpoints: str, progress: bool) -> Tensor:
    """The frames, on the images' device, which is the only place that holds them all."""
    frames = torch.empty(len(latents), *images.shape[1:], device=images.device)
    if endpoints == "reconstructed":
        return model.decode(latents, out=frames, progress=progress)
    frames[0], frames[-1] = images
    model.decode(latents[1:-1], out=frames[1:-1], progress=progress)
    return frames
