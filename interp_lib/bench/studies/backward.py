"""The backward direction of the sampler alone, on held-out calm clips of 14 frames: does the actor come from behind?

The first 200 held-out clips, 6 steps; the model is told their true speed. Every video is made by the backward
direction alone (`inbetween` with fuse=0, no recurrence): it is given the last frame, and the maps, turned, of the
forward direction, which is given the first. way: "tuned" (the paper's), "tuned, mid-block" and "tuned, up-blocks"
(maps turned only there), "rotated" (turned maps in the up-blocks, no fine-tune), "rotated everywhere", "unrotated"
(all projections fine-tuned, no maps). "tuned" runs on all clips, the others on the first 50. net: displacement along
the facing in true order of time, pixels of 64. accuracy: share of the frame-to-frame steps that go along it. index:
back and forth. key: PSNR in dB of the last frame against the given one. first: of the first frame, which nothing but
the maps tells. psnr: mean over all frames against the true ones. true_net: net of the true clip.
"""

from __future__ import annotations

from interp_lib.bench.metrics import psnr
from interp_lib.bench.motion import (
    actor_track,
    back_and_forth,
    direction_accuracy,
    empty_scene,
    net_displacement,
    world_clips,
)
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.video_model import VideoModel

MODEL = "video"
FRAMES, STEPS, FPS = 14, 6, 7
FEW = 50
ALL = ["down_blocks", "mid_block", "up_blocks"]
WAYS = {
    "tuned": {"method": "dual"},
    "tuned, mid-block": {"method": "dual", "rotate": "mid_block"},
    "tuned, up-blocks": {"method": "dual", "rotate": "up_blocks"},
    "rotated": {"method": "no-finetune"},
    "rotated everywhere": {"method": "no-finetune", "rotate": ALL},
    "unrotated": {"method": "no-rotation"},
}
ITEMS = [{"seed": s, "way": way} for s in range(200) for way in WAYS if way == "tuned" or s < FEW]
UNIT = 127 / (0.275 / 13 * FPS)  # motion bucket of one side a second, as the embedded model was taught


def measure(model: VideoModel, *, seed: int, way: str) -> list[dict]:
    clip = world_clips(1, frames=FRAMES, first=seed)[0]
    speed = float(clip.scene.actors[0, 0, 5]) / (FRAMES - 1)
    how = {"frames": FRAMES, "steps": STEPS, "recurrence": 0, "fps": FPS, "motion_bucket": UNIT * FPS * speed}
    ends = clip.frames[:1], clip.frames[-1:]
    frames = inbetween(model, *ends, fuse=0.0, seed=seed, progress=False, **how, **WAYS[way]).frames
    ground = empty_scene(clip)
    track, truth = actor_track(frames, ground), actor_track(clip.frames, ground)
    return [
        {
            "net": net_displacement(track, clip.facing),
            "true_net": net_displacement(truth, clip.facing),
            "accuracy": direction_accuracy(track, clip.facing),
            "index": back_and_forth(track),
            "key": float(psnr(frames[-1:], ends[1])),
            "first": float(psnr(frames[:1], ends[0])),
            "psnr": float(psnr(frames, clip.frames).mean()),
        }
    ]
