"""Diffusion features of images (paper section 3.2, Fig. 3), the output of one up-block, and the flow they give."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lib.checks import check_int, check_tensors
from interp_lib.dreammover.ddim import FEATURE_STEP, Inversion, image_batch, invert_along, scale_step, timesteps
from interp_lib.dreammover.flow import match_features
from interp_lib.models.image_model import ImageModel, TextContext, check_model
from interp_lib.progress import track

BLOCK, CELLS = 1, 32  # the paper's up-block (the second), and its grid at 512 px


class _BlockDone(Exception):
    """Raised by the hook once the block's output is there: the rest of the U-Net need not run."""


@torch.no_grad()
def diffusion_features(
    model: ImageModel,
    images: Tensor | Sequence[Tensor] | None,
    *,
    step: int | None = None,
    block: int | None = None,
    steps: int = 50,
    prompt: str = "",
    inversion: Inversion | None = None,
    progress: bool = True,
) -> Tensor:
    """Return the output [N,C,h,w] of `unet.up_blocks[block]` for images [N,3,H,W] in [0,1], after `step` of `steps`.

    Source: section 3.2 and 4.1 (second up-block, 14th step). Inverts `step` steps, then makes one extra pass on
    (z_step, t_step), which the inversion itself never evaluates, and stops it after the block.
    step: None is the paper's 14 of 50. block: None is that of `feature_block`. inversion: an existing one of these
    images, whose latents are reused (`images` may then be None); one that is too short is continued.
    Raises ValueError for a step or block out of range, a prompt that is no text, an inversion of other steps.
    """
    schedule = timesteps(model, steps).tolist()
    steps = len(schedule)
    step = scale_step(FEATURE_STEP, steps) if step is None else check_int("step", step, 1, steps, "steps")
    if block is not None:
        block = check_int("block", block, 0, len(model.unet.up_blocks) - 1)
    done = 0
    if inversion is not None:
        _check_inversion(inversion)
        if inversion.steps != steps:
            raise ValueError(f"inversion has {inversion.steps} steps and steps={steps}: both must be the same.")
        levels = inversion.timesteps.tolist()
        done = sum(t == level for t, level in zip(schedule[:step], levels, strict=False))  # a quick one skips some
    with model.lock:
        context = model.embed_text(prompt)
        z = model.encode(image_batch(images)) if inversion is None else inversion.latents[done]
        rest = invert_along(model, z, context, schedule[done:step], schedule[done - 1] if done else 0)
        for latents, _, _ in track(rest, "features", step - done, shown=progress):
            z = latents
        if block is None:
            block = feature_block(model, max(z.shape[-2:]) * model.vae_factor)
        return _block_output(model, z, schedule[step - 1], context, block)


# Eq. 5
def estimate_flow(
    model: ImageModel, inversion: Inversion, *, step: int | None = None, block: int | None = None, prompt: str = ""
) -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10) [1,2,h,w] in latent pixels, both ways between the two images of an inversion.

    Source: section 3.2, Eq. 5, on `diffusion_features`, where step, block and errors are explained.
    U-Net calls: one, and one more for every step that the inversion lacks.
    """
    _check_inversion(inversion)
    if len(inversion.latents[0]) != 2:
        raise ValueError(f"inversion holds {len(inversion.latents[0])} images: invert the two of one pair together.")
    options = {"step": step, "block": block, "steps": inversion.steps, "prompt": prompt, "progress": False}
    features = diffusion_features(model, None, inversion=inversion, **options)
    return match_both_ways(features, tuple(inversion.latents[0].shape[-2:]))


def match_both_ways(features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return (flow01, flow10) [1,2,h,w] in pixels of `size`, from the features [2,C,h,w] of both images."""
    first, second = features.split(1)
    return match_features(first, second, size=size), match_features(second, first, size=size)


def feature_block(model: ImageModel, size: int) -> int:
    """Return the up-block to read features from, counted from 0, for images whose longer side has `size` pixels.

    Source: section 4.1 names the second up-block; Stable Diffusion's has 32 cells at 512 px. The recommendation of the
    model's settings.json, else the first block from the paper's on with 32 cells a side or more, else the paper's own.
    """
    check_model(model)
    blocks, latent = len(model.unet.up_blocks), check_int("size", size, model.multiple) // model.vae_factor
    # every up-block but the last two doubles the grid of the one before
    fine = [k for k in range(BLOCK, blocks) if latent >> max(blocks - 2 - k, 0) >= CELLS]
    block = model.settings.get("feature_block", fine[0] if fine else BLOCK)
    return check_int("feature_block in the model's settings.json", block, 0, blocks - 1)


def _check_inversion(inversion: object) -> None:
    if not isinstance(inversion, Inversion):
        raise ValueError(f"inversion is a {type(inversion).__name__}: give what invert(model, images) returns.")


def _block_output(model: ImageModel, latents: Tensor, timestep: int, context: TextContext, block: int) -> Tensor:
    """Return the output of `unet.up_blocks[block]`, float32, from one counted call that stops there."""

    def stop(module: object, args: object, output: Tensor) -> None:
        raise _BlockDone(output.float())

    hook = model.unet.up_blocks[block].register_forward_hook(stop)
    try:
        model.predict_noise(latents, timestep, context)
    except _BlockDone as done:
        return done.args[0]
    finally:
        hook.remove()


def pca_project(features: Tensor, *, components: int = 3) -> Tensor:
    """Project features [N,C,h,w] on their joint principal components over all images: [N,components,h,w].

    Source: Fig. 3. Components are in falling order of variance, centred and not rescaled; the sign is fixed so that
    the loading of largest magnitude is positive. float64 inside. Raises ValueError unless features are finite, with at
    least `components` channels and positions.
    """
    check_tensors(features=features)
    if features.ndim != 4:
        raise ValueError(f"features has shape {list(features.shape)}: give [N,C,h,w].")
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features holds NaN or infinite values: check the network's dtype, float32 is safe.")
    n, c, h, w = features.shape
    components = check_int("components", components, 1, min(c, n * h * w), "the lesser of channels and positions")
    device = "cpu" if features.device.type == "mps" else features.device  # MPS has no float64
    x = features.detach().to(device).double().permute(0, 2, 3, 1).reshape(-1, c)
    x = x - x.mean(0)
    axes = torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)[:, :components]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return (x @ axes).reshape(n, h, w, components).permute(0, 3, 1, 2).to(features)
