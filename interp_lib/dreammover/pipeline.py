"""`interpolate`: DreamMover whole, from the keyframes to the frames between them (paper section 3, Fig. 2).

`interpolate` is `interpolate_sequence` with two keyframes: LoRA, inversion, flow, then a film of every two neighbours
by `denoise_frames` in `sampler`, which fuses at T and takes the steps down to clean latents.
"""

import os
from collections import deque
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.dreammover import inputs
from interp_lib.dreammover.ddim import plan_levels, run_inversion
from interp_lib.dreammover.features import feature_block
from interp_lib.dreammover.lora import Lora, scaled_lora
from interp_lib.dreammover.sampler import Network, denoise_frames
from interp_lib.memory import memory_advice
from interp_lib.models.image_model import ImageModel
from interp_lib.progress import one_bar, track
from interp_lib.types import Interpolation

# The quick setting, as keyword arguments: 30 U-Net calls for the 91 of 50 DDIM steps at the paper's T.
QUICK = {"solver": "dpmsolver++", "steps": 7}


def interpolate(
    model: ImageModel,
    image0: Tensor | Image.Image,
    image1: Tensor | Image.Image,
    *,
    frames: int = 32,
    preset: str = "paper",
    two_level: bool = True,
    attention: bool = True,
    lora: bool | Lora | str | os.PathLike | None = None,
    flow: str | tuple[Tensor, Tensor] = "diffusion",
    steps: int = 50,
    inversion_steps: int | None = None,
    batch_size: int | None = None,
    seed: int | torch.Generator = 0,
    prompt: str = "",
    endpoints: str = "input",
    solver: str = "ddim",
    progress: bool = True,
) -> Interpolation:
    """Make the `frames` images between image0 and image1, at times i/(frames+1); frames+2 with both ends come back.

    Source: section 3 and 4.1; the switches two_level, attention, lora and flow are the ablations of Table 3.
    image0, image1: one image each; a second one of another size is fitted to the first, sides that are no multiples of
    the model's are cut, PIL images are reduced to the model's own area: all of it is noted.
    preset: "paper" or "released" (what the released code does). lora: fit one (True), use none (False), or one that
    was fitted before, a handle of this model or a path. flow: "diffusion", "classical" (block matching), "zero", or
    two tensors (flow01, flow10) [1,2,h,w] in latent pixels or [1,2,H,W] in image pixels, such as `estimate_flow` gives.
    steps: of the schedule; inversion_steps: T, where the fusion takes place. lora and inversion_steps: None is the
    recommendation of the model's settings.json, else the paper's (True, and 30 of 50); the notes say what was chosen.
    batch_size: middle frames per U-Net call (None: all); it changes memory, not frames. seed: of the LoRA fit; the rest
    draws nothing. endpoints: "input" puts the images themselves at both ends, "reconstructed" what the model makes of
    them. solver: "ddim", the paper's, or "dpmsolver++", of second order (see `plan_levels`), best as `**QUICK`.
    U-Net calls: T + 1 + T * (1 + ceil(frames/batch_size)), plus one for every step by which the features (14 of 50)
    lie beyond T, plus ceil(frames/batch_size) for "released"; without the diffusion flow its calls fall away.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    method = {"preset": preset, "two_level": two_level, "attention": attention, "lora": lora, "flow": flow}
    levels = {"steps": steps, "inversion_steps": inversion_steps, "solver": solver}
    run = {"batch_size": batch_size, "seed": seed, "prompt": prompt, "endpoints": endpoints, "progress": progress}
    return interpolate_sequence(model, (image0, image1), frames=frames, **method, **levels, **run)


@memory_advice("use smaller images, a smaller batch_size, or load the model with offload=True or in float16")
def interpolate_sequence(
    model: ImageModel,
    images: Tensor | Sequence[Tensor | Image.Image],
    *,
    frames: int = 32,
    preset: str = "paper",
    two_level: bool = True,
    attention: bool = True,
    lora: bool | Lora | str | os.PathLike | None = None,
    flow: str | tuple[Tensor, Tensor] = "diffusion",
    steps: int = 50,
    inversion_steps: int | None = None,
    batch_size: int | None = None,
    seed: int | torch.Generator = 0,
    prompt: str = "",
    endpoints: str = "input",
    solver: str = "ddim",
    loop: bool = False,
    progress: bool = True,
) -> Interpolation:
    """Make one film through K >= 2 keyframes, with `frames` images between every two neighbours.

    images: [K,3,H,W] in [0,1], or a list of tensors and PIL images; those of another size are fitted to the first,
    which is noted. The other arguments are those of `interpolate`; two tensors as flow are [K-1,2,h,w] ([K,2,h,w] in a
    loop). loop: go on from the last keyframe to the first; the film ends with the frame before it, so that a player
    that starts again shows no frame twice.
    Returns (K-1) * (frames+1) + 1 frames, in a loop K * (frames+1), with the keyframes at every (frames+1)-th; flow01
    and flow10 have one row per neighbouring pair. One LoRA is fitted on all images; each is inverted once, in batches
    of `batch_size`, but at least two. U-Net calls in one batch: T + 1 + (K-1) * T * (1 + ceil(frames/batch_size)).
    Raises ValueError, before anything slow, for arguments and images that do not fit and for identical neighbours.
    """
    frames = check_int("frames", frames, 1)
    batch_size = None if batch_size is None else check_int("batch_size", batch_size, 1)
    inputs.check_choices(preset, endpoints, seed, prompt, two_level=two_level, attention=attention, loop=loop)
    plan = plan_levels(model, steps, inversion_steps, solver)
    used = inputs.choose_lora(model, lora)
    keyframes, notes = inputs.prepare_images(model, images, loop=loop)
    count = len(keyframes)
    pairs = [(k, (k + 1) % count) for k in range(count if loop else count - 1)]
    flows = inputs.prepare_flow(model, flow, keyframes, len(pairs))
    chosen = [f"inversion_steps={len(plan.down)}"] if inversion_steps is None else []
    chosen += [f"lora={used}"] if lora is None else []
    if not flows and flow == "diffusion":
        chosen.append(f"features of up-block {feature_block(model, max(keyframes.shape[-2:]))}")
    notes += [f"chosen for this model: {', '.join(chosen)}"] if chosen else []
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)
    at_once = count if batch_size is None else max(2, batch_size)  # keyframes
    denoising, decoded = (len(plan.down) + 1) * (frames + 2), 1 if endpoints == "reconstructed" else len(pairs)
    stages = [("inversion", 1, len(plan.strides) * count), ("denoising", len(pairs), denoising)]
    stages += [("decoding", decoded, frames * len(pairs) / decoded)]
    with model.lock:
        calls, context = model.unet_calls, model.embed_text(prompt)
        with (
            inputs.pair_lora(model, used, keyframes, preset, prompt, seed, progress) as adapter,
            one_bar(stages, shown=progress),
        ):
            with scaled_lora(adapter, 1.0):
                z = model.encode(keyframes)
                inversion = run_inversion(model, z, context, plan, batch_size=at_once, progress=progress)
                flow01, flow10 = flows or inputs.find_flow(model, flow, keyframes, inversion, pairs, at_once, prompt)
            with scaled_lora(adapter, inputs.LORA[preset].strength):
                net, films = Network(model, context, batch_size or frames, attention, preset), []
                for pair, there, back in zip(pairs, flow01.split(1), flow10.split(1), strict=True):
                    ends = inversion.select(list(pair))
                    states = denoise_frames(net, ends, there, back, deltas, two_level=two_level)
                    states = track(states, "denoising", len(plan.down) + 1, shown=progress)
                    films.append(deque(states, maxlen=1).pop())  # the last state; no other stays in memory
            notes += [] if adapter is None else adapter.notes
            latents = torch.cat([films[0].latents[:1], *(film.latents[1:] for film in films)])  # no keyframe twice
            latents = latents[:-1] if loop else latents
            pictures = _decode(model, latents, keyframes, frames + 1, endpoints, progress)
        fused = torch.cat([film.fused_clean for film in films]) if two_level else None
        return Interpolation(pictures, latents, flow01, flow10, fused, model.unet_calls - calls, notes)


def _decode(model: ImageModel, latents: Tensor, keyframes: Tensor, gap: int, endpoints: str, progress: bool) -> Tensor:
    """Return the frames, on the images' device, which is the only place that holds them all; a keyframe every `gap`."""
    frames = torch.empty(len(latents), *keyframes.shape[1:], device=keyframes.device)
    if endpoints == "reconstructed":
        return model.decode(latents, out=frames, progress=progress)
    frames[::gap] = keyframes
    for k in range(1, len(frames), gap):
        model.decode(latents[k : k + gap - 1], out=frames[k : k + gap - 1], progress=progress)
    return frames
