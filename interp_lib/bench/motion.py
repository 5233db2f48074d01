"""The direction of motion: the foreground object's track in a single-object clip, and how it goes along it.

Source: METHODS, section 5. Tracks are `[T,2]` (x, y) in pixels, NaN in a frame that shows no object.
"""

from dataclasses import replace

import torch
from torch import Tensor

from interp_lib.checks import check_int, check_size, check_tensors
from interp_lib.world.clips import calm_scene
from interp_lib.world.render import render
from interp_lib.world.scene import Scene
from interp_lib.world.truth import LEAST, Clip

THRESHOLD = 0.12  # difference in a channel from which a pixel begins to count as object


def world_clips(count: int, *, frames: int, size: int = 64, first: int = 0) -> list[Clip]:
    """Render single-object clips of seeds `first`, ..., which no training saw (training starts at a million)."""
    check_int("count", count, 1)
    check_size("size", size, LEAST)
    return [Clip(calm_scene(seed), frames=frames, size=size) for seed in range(first, first + count)]


def world_ground(scene: Scene, size: int | tuple[int, int]) -> Tensor:
    """Render a single-object scene without its object, [1,3,H,W]; it does not move."""
    parts = scene.parts.clone()
    parts[..., 11] = 0
    return render(replace(scene, parts=parts), 0.0, size=size)


def actor_track(frames: Tensor, ground: Tensor) -> Tensor:
    """Return where the object is, [T,2]: the centre of what differs from the background by more than `THRESHOLD`.

    frames: [T,3,H,W] in [0,1]. ground: the background [1,3,H,W], see `world_ground`.
    """
    weight, total = _object_weight(frames, ground)
    x, y = (weight.sum(d) @ torch.arange(weight.shape[3 - d], dtype=weight.dtype) / total for d in (1, 2))
    return torch.stack([x, y], 1).masked_fill((total < 1e-3)[:, None], torch.nan)


def actor_spread(frames: Tensor, ground: Tensor) -> Tensor:
    """Return the object's standard deviation along x in pixels, [T], NaN where there is none.

    It gives away the two ghosts of a cross-dissolve, whose centre moves like the object's.
    """
    weight, total = _object_weight(frames, ground)
    columns, position = weight.sum(1), torch.arange(weight.shape[-1], dtype=weight.dtype)
    mean = (columns @ position / total)[:, None]
    return ((columns * (position - mean).square()).sum(1) / total).sqrt().masked_fill(total < 1e-3, torch.nan)


def _object_weight(frames: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Return [T,H,W], 0 below the threshold and 1 from 0.1 above it, and its sum per frame."""
    check_tensors(frames=frames, ground=ground)
    if frames.ndim != 4 or ground.shape != (1, *frames.shape[1:]):
        shapes = f"{list(frames.shape)} and {list(ground.shape)}"
        raise ValueError(f"frames and ground have shapes {shapes}: give [T,3,H,W] and [1,3,H,W] of one size.")
    weight = (((frames - ground).abs().amax(1) - THRESHOLD) / 0.1).clamp(0, 1)
    return weight, weight.sum((1, 2))


def direction_accuracy(track: Tensor, direction: float) -> float:
    """Return the share of steps along `direction` (+1 right, -1 left): 1/2 for a trembling object, NaN for none."""
    steps = track[:, 0].diff() * direction
    return float((steps[~steps.isnan()] > 0).float().mean())


def net_displacement(track: Tensor, direction: float) -> float:
    """Return the sum of all known steps along `direction`, in pixels."""
    return float((track[:, 0].diff() * direction).nansum())


def back_and_forth(track: Tensor) -> float:
    """Return 1 - |net displacement| / path length, horizontally: 0 one way, 1 back to the start, NaN without motion.

    Source: ours, after the paper's complaint about fused forward paths (Generative Inbetweening, section 5.2).
    """
    steps = track[:, 0].diff()
    path = float(steps.abs().nansum())
    return 1 - abs(float(steps.nansum())) / path if path > 0 else float("nan")
