"""`interpolate_sequence`: one film through any number of keyframes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp_lib.checks import check_switch
from interp_lib.dreammover.inputs import Settings
from interp_lib.dreammover.lora import Lora
from interp_lib.dreammover.pipeline import MEMORY_ADVICE, make_frames
from interp_lib.memory import memory_advice
from interp_lib.models.image_model import ImageModel
from interp_lib.types import Interpolation

if TYPE_CHECKING:
    from PIL.Image import Image


@memory_advice(MEMORY_ADVICE)
def interpolate_sequence(
    model: ImageModel,
    images: Tensor | Sequence[Tensor | Image],
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
    loop). loop: go on from the last keyframe to the first; the film ends with the frame before it, which is not
    repeated, so that a player that starts again shows no frame twice.
    Returns (K-1) * (frames+1) + 1 frames, in a loop K * (frames+1), with the keyframes at every (frames+1)-th; flow01
    and flow10 have one row per neighbouring pair. Two images give what `interpolate` gives, bit for bit.
    One LoRA is fitted on all images; each is encoded, inverted and its features computed once, all in one batch (of
    `batch_size`, but at least two). U-Net calls in one batch: T + 1 + (K-1) * T * (1 + ceil(frames/batch_size)),
    where K-1 separate pairs need (K-2) * (T+1) more: at T = 30 five keyframes take 271 calls, four pairs 364.
    Raises ValueError, before anything slow, for arguments and images that do not fit and for identical neighbours.
    """
    check_switch("loop", loop)
    choices = (frames, preset, two_level, attention, lora, flow, steps, inversion_steps, batch_size, seed, prompt)
    return make_frames(model, images, Settings(*choices, endpoints, solver, progress), loop=loop)
