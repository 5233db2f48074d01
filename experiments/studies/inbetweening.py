"""Every method between two keyframes of held-out calm clips of 14 frames, against the true frames between.

The first 50 held-out clips, and "dual" on the first 200; 6 steps, each of the first half repeated once, nothing told
about the speed. "crossfade" mixes the keyframes, "true" is the clip as the autoencoder returns it. psnr: dB over the
12 frames between. moving: the same on pixels where the true frame or a keyframe shows the actor. accuracy: share of
the frame-to-frame steps along the true motion. index: back and forth, 0 is one way. spread: width of what is seen of
the actor over the true one, in the mean; ghosts have more. first, last: PSNR in dB of the ends against the keyframes.
calls: of the U-Net.
"""

import torch
from torch import Tensor

from interp_lib.bench.metrics import psnr
from interp_lib.bench.motion import (
    actor_spread,
    actor_track,
    back_and_forth,
    direction_accuracy,
    world_clips,
    world_ground,
)
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.video_model import VideoModel
from interp_lib.world.truth import Clip

VERSION = 1
MODEL = "video"
FRAMES, STEPS, RECURRENCE = 14, 6, 1
METHODS = ("dual", "no-rotation", "no-finetune", "trf", "vibid", "vibid-plain", "forward", "crossfade", "true")
ITEMS = [{"seed": s, "method": m} for s in range(200) for m in METHODS if s < 50 or m == "dual"]


def measure(model: VideoModel, *, seed: int, method: str) -> list[dict]:
    clip = world_clips(1, frames=FRAMES, first=seed)[0]
    frames, calls = make(model, clip, method, seed)
    return [score(frames, clip) | {"calls": calls}]


def make(model: VideoModel, clip: Clip, method: str, seed: int) -> tuple[Tensor, int]:
    """The frames [T,3,H,W] of a method between the ends of a clip, and the U-Net calls they took."""
    first, last = clip.frames[:1], clip.frames[-1:]
    if method == "crossfade":
        weight = torch.linspace(0, 1, len(clip.frames)).view(-1, 1, 1, 1)
        return (1 - weight) * first + weight * last, 0
    if method == "true":
        return model.decode(model.encode(clip.frames)).cpu(), 0
    how = {"steps": STEPS, "recurrence": RECURRENCE, "seed": seed, "progress": False}
    made = inbetween(model, first, last, frames=len(clip.frames), method=method, **how)
    return made.frames, made.unet_calls


def score(frames: Tensor, clip: Clip) -> dict[str, float]:
    """The columns of the table for one video [T,3,H,W]."""
    ground, true, between = world_ground(clip.scene, clip.size), clip.frames, slice(1, -1)
    track = actor_track(frames, ground)
    actor = (true - ground).abs().amax(1, keepdim=True) > 0.05
    masks = (actor | actor[:1] | actor[-1:])[between]
    return {
        "psnr": float(psnr(frames[between], true[between]).mean()),
        "moving": float(psnr(frames[between], true[between], mask=masks).mean()),
        "accuracy": direction_accuracy(track, clip.facing),
        "index": back_and_forth(track),
        "spread": float((actor_spread(frames, ground) / actor_spread(true, ground))[between].nanmean()),
        "first": _finite(psnr(frames[:1], true[:1])),
        "last": _finite(psnr(frames[-1:], true[-1:])),
    }


def _finite(value: Tensor) -> float | None:
    """None where the frame is the keyframe itself."""
    return float(value) if bool(torch.isfinite(value)) else None
