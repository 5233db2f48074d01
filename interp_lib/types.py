"""The two records that all packages share: a pair of images with what is known about it, and the frames between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Pair:
    """Two images far apart in time, and the ground truth about them where there is one.

    image0, image1: [1,3,H,W] in [0,1]. frames: [T,3,H,W] in [0,1], true frames with both keyframes, or None.
    flow01, flow10: [1,2,H,W] in image pixels (dx right, dy down), or None.
    visible01, visible10: [1,1,H,W] bool, pixels of image 0 (1) that are visible in image 1 (0), or None.
    actor0, actor1: [1,1,H,W] bool, pixels of foreground objects, or None.
    caption: a short description usable as a prompt. notes: what was adapted when it was loaded.
    """

    name: str
    image0: Tensor
    image1: Tensor
    frames: Tensor | None = None
    flow01: Tensor | None = None
    flow10: Tensor | None = None
    visible01: Tensor | None = None
    visible10: Tensor | None = None
    actor0: Tensor | None = None
    actor1: Tensor | None = None
    caption: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Interpolation:
    """The result of an interpolation.

    frames: [T,3,H,W] in [0,1], both keyframes included. latents: [T,C,h,w] after the last denoising step, of a video
    model [1,T,C,h,w]. flow01, flow10: [1,2,h,w] in latent pixels. fused_clean: [n,C,h,w], the high level of Eq. 7 for
    the n middle frames. unet_calls: calls of the U-Net, one batched call counted once, LoRA fitting excluded.
    notes: what was adapted (sizes, colour modes) or chosen for the model, one sentence each.
    """

    frames: Tensor
    latents: Tensor
    flow01: Tensor | None = None
    flow10: Tensor | None = None
    fused_clean: Tensor | None = None
    unet_calls: int = 0
    notes: list[str] = field(default_factory=list)
