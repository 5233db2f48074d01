"""Diffusion features of images (paper section 3.2, Fig. 3), the output of one up-block, and the flow they give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.checks import check_int, check_tensors
from interp_lib.dreammover.ddim import Inversion, image_batch, inversion_steps, timesteps
from interp_lib.dreammover.flow import match_features
from interp_lib.models.image_model import ImageModel, check_model


class _BlockDone(Exception):
    """Raised by the hook once the block's output is there: the rest of the U-Net need not run."""


@torch.no_grad()
def diffusion_features(
    model: ImageModel,
    images: Tensor | Sequence[Tensor] | None,
    *,
    step: int = 14,
    block: int = 1,
    steps: int = 50,
    prompt: str = "",
    inversion: Inversion | None = None,
    progress: bool = True,
) -> Tensor:
    """Output [N,C,h,w] of `unet.up_blocks[block]` for images [N,3,H,W] in [0,1] after `step` steps of inversion.

    Source: section 3.2 and 4.1 (second up-block, 14th step). Inverts `step` steps, then makes one extra pass on
    (z_step, t_step), which the inversion itself never evaluates, and stops it after the block.
    inversion: an existing one of these images, whose latents are reused (`images` may then be None); where it is too
    short it is continued. Raises ValueError for a step or block out of range and a prompt that is no text.
    """
    schedule = [int(t) for t in timesteps(model, steps)]
    steps = len(schedule)
    step = check_int("step", step, 1, steps, "steps")
    block = check_int("block", block, 0, len(model.unet.up_blocks) - 1)
    _check_inversion(inversion)
    if inversion is not None and inversion.steps != steps:
        raise ValueError(f"inversion has {inversion.steps} steps and steps={steps}: both must be the same.")
    context = model.embed_text(prompt)
    path = [model.encode(image_batch(images))] if inversion is None else inversion.latents[: step + 1]
    done = len(path) - 1
    start = schedule[done - 1] if done else 0
    rest = inversion_steps(model, path[-1], context, schedule[done:step], start)
    path += [z for z, _, _ in tqdm(rest, total=step - done, desc="inversion", disable=not progress or done == step)]
    return block_output(model, path[-1], schedule[step - 1], context, block)


def estimate_flow(
    model: ImageModel, inversion: Inversion, *, step: int | None = None, block: int = 1, prompt: str = ""
) -> tuple[Tensor, Tensor]:
    """(flow01, flow10) [1,2,h,w] in latent pixels, both ways between the two images of an inversion.

    Source: section 3.2, Eq. 5, on `diffusion_features`. step: None is the paper's share of the schedule, 14 of 50.
    U-Net calls: one, and one more for every step that the inversion lacks.
    Raises ValueError for an inversion of other than two images and a step or block out of range.
    """
    check_model(model)
    _check_inversion(inversion, needed=True)
    size = tuple(inversion.latents[0].shape[-2:])
    if len(inversion.latents[0]) != 2:
        raise ValueError(f"inversion holds {len(inversion.latents[0])} images: invert the two of one pair together.")
    if step is None:
        step = max(1, round(14 / 50 * inversion.steps))
    how = {"step": step, "block": block, "steps": inversion.steps, "prompt": prompt, "progress": False}
    first, second = diffusion_features(model, None, inversion=inversion, **how).split(1)
    return match_features(first, second, size=size), match_features(second, first, size=size)


def _check_inversion(inversion: object, *, needed: bool = False) -> None:
    if not isinstance(inversion, Inversion) and (needed or inversion is not None):
        raise ValueError(f"inversion is a {type(inversion).__name__}: give what invert(model, images) returns.")


def feature_block(model: ImageModel, size: int, *, cells: int = 32) -> int:
    """The up-block to read features of `size` px images from: the paper's second, or where that is too coarse the first
    after it that puts out at least `cells` a side (Stable Diffusion's second puts out 32 at 512 px).

    Source: ours; section 4.1 names the second, counted from 0 it is 1. The last one where all are too coarse.
    """
    check_model(model)
    blocks, latent = len(model.unet.up_blocks), check_int("size", size, model.multiple) // model.vae_factor
    fine = [k for k in range(1, blocks) if latent >> max(blocks - 2 - k, 0) >= cells]
    return fine[0] if fine else blocks - 1


@torch.no_grad()
def block_output(model: ImageModel, latents: Tensor, timestep: int, context: Tensor, block: int) -> Tensor:
    """What `unet.up_blocks[block]` puts out, float32: one counted call that stops there."""
    kept: list[Tensor] = []

    def keep(module, args, output):
        kept.append(output)
        raise _BlockDone

    hook = model.unet.up_blocks[block].register_forward_hook(keep)
    try:
        model.predict_noise(latents, timestep, context)
    except _BlockDone:
        pass
    finally:
        hook.remove()
    return kept[0].float()


def pca_project(features: Tensor, *, components: int = 3) -> Tensor:
    """Joint PCA of features [N,C,h,w] over all images and positions -> [N,components,h,w].

    Source: Fig. 3. Components are in falling order of variance, centred and not rescaled; the sign is fixed so that
    the loading of largest magnitude is positive. float64 inside, the input's dtype outside.
    Raises ValueError unless features are [N,C,h,w] with at least `components` channels and positions.
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
