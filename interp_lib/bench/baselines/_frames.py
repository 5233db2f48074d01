"""What methods share: files of the user's, sizes and numbers of frames that a network takes, the way back to a pair."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.types import Interpolation, Pair


def find(variable: str, need: str) -> Path:
    """Return the path that an environment variable names; FileNotFoundError, which says what to get, without one."""
    given = os.environ.get(variable, "")
    path = Path(os.path.abspath(os.path.expanduser(given)))
    if not given or not path.exists():
        missing = f"{path} ({variable}) does not exist; " if given else ""
        raise FileNotFoundError(f"{missing}{need}, and give its path in the environment variable {variable}.")
    return path


def keyframes(pair: Pair) -> Tensor:
    """Return both keyframes, [2,3,H,W]."""
    return torch.cat([pair.image0, pair.image1])


def times(frames: int) -> Tensor:
    """Return i/(frames+1) for i = 1..frames, [frames,1,1,1] in float64."""
    return (torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)).view(-1, 1, 1, 1)


def halvings(frames: int) -> list[list[tuple[int, int, int]]]:
    """Return (parent, child, parent) of every frame 1..frames, the middle of a gap first: a list per generation."""
    gaps, plan = [(0, frames + 1)], []
    while gaps := [(low, high) for low, high in gaps if high - low > 1]:
        plan.append([(low, (low + high) // 2, high) for low, high in gaps])
        gaps = [gap for low, k, high in plan[-1] for gap in ((low, k), (k, high))]
    return plan


def between_keyframes(
    pair: Pair, middle: Tensor, *, latents: Tensor | None = None, calls: int = 0, notes: Sequence[str] = ()
) -> Interpolation:
    """Return frames [n,3,H,W] between the pair's own images, clamped to [0,1], on the CPU; calls: of the U-Net."""
    frames = torch.cat([pair.image0.cpu(), middle.detach().float().cpu().clamp(0, 1), pair.image1.cpu()])
    latents = frames.new_empty(0) if latents is None else latents
    return Interpolation(frames=frames, latents=latents, unet_calls=calls, notes=list(notes))


def pad_to(
    images: Tensor, multiple: int, *, least: tuple[int, int] = (0, 0), mode: str = "constant", centred: bool = True
) -> tuple[Tensor, Callable[[Tensor], Tensor], list[str]]:
    """Pad [N,C,H,W] to multiples of `multiple`, at least to `least` (h, w); also return the crop back and a note.

    mode: "constant" (zeros) or "replicate". centred: on all sides, else right and below only.
    """
    height, width = sides = images.shape[-2:]
    down, right = (max(low, -(-side // multiple) * multiple) - side for side, low in zip(sides, least, strict=True))
    top, left = (down // 2, right // 2) if centred else (0, 0)
    padded = F.pad(images, (left, right - left, top, down - top), mode=mode)
    content = "zeros" if mode == "constant" else "edge pixels"
    note = f"padded from {width}x{height} to {width + right}x{height + down} pixels by {content}, and cut again"
    return padded, lambda x: x[..., top : top + height, left : left + width], [note] if down or right else []


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return [N,3,H,W] in [0,1] resized to (h, w), antialiased; unchanged where they have that size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def nearest(count: int, frames: int) -> tuple[list[int], list[str]]:
    """Choose which of `count` frames, keyframes included, lie nearest to i/(frames+1) for i = 1..frames.

    The earlier of two equally near is taken, a keyframe never. Also returns a note, unless each is used once.
    """
    places = (-(-(2 * i * (count - 1) - frames - 1) // (2 * (frames + 1))) for i in range(1, frames + 1))
    chosen = [min(max(place, 1), count - 2) for place in places]
    if count == frames + 2:
        return chosen, []
    repeated = frames - len(set(chosen))
    again = f", {repeated} of them twice or more often" if repeated else ""
    return chosen, [f"{count} frames made, keyframes included, and the {frames} nearest in time taken{again}"]
