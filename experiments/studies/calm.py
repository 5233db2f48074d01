"""Three studies of the video model on held-out calm clips of 14 frames: which way does the actor go?"""

from typing import Any

import torch
from torch import Tensor

from experiments.studies import study
from interp_lib.bench.metrics import psnr
from interp_lib.bench.motion import (
    actor_spread,
    actor_track,
    back_and_forth,
    direction_accuracy,
    net_displacement,
    world_clips,
    world_ground,
)
from interp_lib.inbetweening.animate import animate
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.video_model import VideoModel
from interp_lib.world.truth import Clip

FRAMES, FPS = 14, 7
HOW = {"frames": FRAMES, "steps": 6, "fps": FPS, "progress": False}
UNIT = 127 / (0.275 / 13 * FPS)  # motion bucket of one side a second, as the embedded model was taught
BACKWARD = {
    "tuned": {"method": "dual"},
    "tuned, mid-block": {"method": "dual", "rotate": "mid_block"},
    "tuned, up-blocks": {"method": "dual", "rotate": "up_blocks"},
    "rotated": {"method": "no-finetune"},
    "rotated everywhere": {"method": "no-finetune", "rotate": ["down_blocks", "mid_block", "up_blocks"]},
    "unrotated": {"method": "no-rotation"},
}
WAYS = ("forward", *BACKWARD, "plain")
METHODS = ("dual", "no-rotation", "no-finetune", "trf", "vibid", "vibid-plain", "forward", "crossfade", "true")


def held_out(seed: int) -> tuple[Clip, float]:
    """Return a held-out clip, and the motion bucket of its true speed."""
    clip = world_clips(1, frames=FRAMES, first=seed)[0]
    return clip, UNIT * FPS * (float(clip.scene.actors[0, 0, 5]) / (FRAMES - 1))


def measured(frames: Tensor, clip: Clip, *, given: int) -> dict[str, Any]:
    """Return the columns that `animation` and `backward` share; given: number of the frame that the model is given."""
    ground = world_ground(clip.scene, clip.size)
    track, truth = actor_track(frames, ground), actor_track(clip.frames, ground)
    return {
        "net": net_displacement(track, clip.facing),
        "true_net": net_displacement(truth, clip.facing),
        "accuracy": direction_accuracy(track, clip.facing),
        "index": back_and_forth(track),
        "key": float(psnr(frames[given][None], clip.frames[given][None])),
        "psnr": float(psnr(frames, clip.frames).mean()),
    }


@study("video", [{"seed": s, "way": w} for s in range(200) for w in WAYS if w in ("forward", "tuned") or s < 24])
def animation(model: VideoModel, *, seed: int, way: str) -> list[dict]:
    """Image-to-video forward and backward in time, on held-out calm clips of 14 frames: which way does the actor go?

    The first 200 held-out clips, 6 steps; the model is told their true speed. way: "forward" animates the first frame;
    all others make a video that ends at the last frame: "rotated" by rotated maps alone in the up-blocks, "rotated
    everywhere" in all blocks, "tuned" (rotated and fine-tuned, the paper's), "tuned, mid-block" and "tuned, up-blocks"
    (rotated only there), "unrotated" (all projections fine-tuned, no maps), "plain" (the forward model, its video
    played backwards). "forward" and "tuned" run on all clips, the others on the first 24. net: displacement along the
    facing in true order of time, pixels of 64. accuracy: share of the frame-to-frame steps that go along it. index:
    back and forth. key: PSNR in dB of the frame that should be the given image. psnr: mean over all frames against the
    true ones. true_net: net of the true clip.
    """
    clip, bucket = held_out(seed)
    given, how = 0 if way == "forward" else -1, {"reverse": way in BACKWARD, **BACKWARD.get(way, {})}
    frames = animate(model, clip.frames[given], motion_bucket_id=bucket, seed=seed, **HOW, **how).frames
    return [measured(frames.flip(0) if way == "plain" else frames, clip, given=given)]


@study("video", [{"seed": s, "way": way} for s in range(200) for way in BACKWARD if way == "tuned" or s < 50])
def backward(model: VideoModel, *, seed: int, way: str) -> list[dict]:
    """The backward direction of the sampler alone, on held-out calm clips: does the actor come from behind?

    The first 200 held-out clips of 14 frames, 6 steps; the model is told their true speed. Every video is made by the
    backward direction alone (`inbetween` with fuse=0, no recurrence): it is given the last frame, and the maps, turned,
    of the forward direction, which is given the first. way: "tuned" (the paper's), "tuned, mid-block" and "tuned,
    up-blocks" (maps turned only there), "rotated" (turned maps in the up-blocks, no fine-tune), "rotated everywhere",
    "unrotated" (all projections fine-tuned, no maps). "tuned" runs on all clips, the others on the first 50. net,
    accuracy, index, psnr, true_net: as in `animation`. key: PSNR in dB of the last frame against the given one. first:
    of the first frame, which nothing but the maps tells.
    """
    clip, bucket = held_out(seed)
    ends, how = (clip.frames[:1], clip.frames[-1:]), {"recurrence": 0, "fuse": 0.0, "motion_bucket_id": bucket}
    frames = inbetween(model, *ends, seed=seed, **HOW, **how, **BACKWARD[way]).frames
    return [measured(frames, clip, given=-1) | {"first": float(psnr(frames[:1], ends[0]))}]


@study("video", [{"seed": s, "method": m} for s in range(200) for m in METHODS if s < 50 or m == "dual"])
def inbetweening(model: VideoModel, *, seed: int, method: str) -> list[dict]:
    """Every method between two keyframes of held-out calm clips of 14 frames, against the true frames between.

    The first 50 held-out clips, and "dual" on the first 200; 6 steps, each of the first half repeated once, nothing
    told about the speed. "crossfade" mixes the keyframes, "true" is the clip as the autoencoder returns it. psnr: dB
    over the 12 frames between. moving: the same on pixels where the true frame or a keyframe shows the actor. accuracy:
    share of the frame-to-frame steps along the true motion. index: back and forth, 0 is one way. spread: width of what
    is seen of the actor over the true one, in the mean; ghosts have more. first, last: PSNR in dB of the ends against
    the keyframes. calls: of the U-Net.
    """
    clip = held_out(seed)[0]
    first, last, calls = clip.frames[:1], clip.frames[-1:], 0
    if method == "crossfade":
        weight = torch.linspace(0, 1, FRAMES).view(-1, 1, 1, 1)
        frames = (1 - weight) * first + weight * last
    elif method == "true":
        frames = model.decode(model.encode(clip.frames)).cpu()
    else:
        result = inbetween(model, first, last, method=method, recurrence=1, seed=seed, **HOW)
        frames, calls = result.frames, result.unet_calls
    return [score(frames, clip) | {"calls": calls}]


def score(frames: Tensor, clip: Clip) -> dict[str, float | None]:
    """Return the measures of `inbetweening` for one video [T,3,H,W]."""
    ground, true, between = world_ground(clip.scene, clip.size), clip.frames, slice(1, -1)
    track = actor_track(frames, ground)
    actor = (true - ground).abs().amax(1, keepdim=True) > 0.05
    ends = {"first": float(psnr(frames[:1], true[:1])), "last": float(psnr(frames[-1:], true[-1:]))}
    return {
        "psnr": float(psnr(frames[between], true[between]).mean()),
        "moving": float(psnr(frames[between], true[between], mask=(actor | actor[:1] | actor[-1:])[between]).mean()),
        "accuracy": direction_accuracy(track, clip.facing),
        "index": back_and_forth(track),
        "spread": float((actor_spread(frames, ground) / actor_spread(true, ground))[between].nanmean()),
        **{name: value if value < float("inf") else None for name, value in ends.items()},  # the keyframe itself
    }
