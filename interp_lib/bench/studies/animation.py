"""Image-to-video forward and backward in time, on held-out calm clips of 14 frames: which way does the actor go?

The first 200 held-out clips, 6 steps; the model is told their true speed. way: "forward" animates the first frame; all
others make a video that ends at the last frame: "rotated" by rotated maps alone in the up-blocks, "rotated everywhere"
in all blocks, "tuned" (rotated and fine-tuned, the paper's), "tuned, mid-block" and "tuned, up-blocks" (rotated only
there), "unrotated" (all projections fine-tuned, no maps), "plain" (the forward model, its video played backwards). The
first two ways run on all clips, the others on the first 24. net: displacement along the facing in true order of time,
pixels of 64. accuracy: share of the frame-to-frame steps that go along it. index: back and forth. key: PSNR in dB of
the frame that should be the given image. psnr: mean over all frames against the true ones. true_net: net of the true
clip.
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
from interp_lib.inbetweening.animate import animate
from interp_lib.models.video_model import VideoModel

MODEL = "video"
FRAMES, STEPS, FPS = 14, 6, 7
FEW = 24
ALL = ["down_blocks", "mid_block", "up_blocks"]
WAYS = {
    "forward": {"reverse": False},
    "tuned": {"reverse": True, "method": "dual"},
    "rotated": {"reverse": True, "method": "no-finetune"},
    "rotated everywhere": {"reverse": True, "method": "no-finetune", "rotate": ALL},
    "tuned, mid-block": {"reverse": True, "method": "dual", "rotate": "mid_block"},
    "tuned, up-blocks": {"reverse": True, "method": "dual", "rotate": "up_blocks"},
    "unrotated": {"reverse": True, "method": "no-rotation"},
    "plain": {"reverse": False},
}
ITEMS = [{"seed": s, "way": way} for s in range(200) for k, way in enumerate(WAYS) if k < 2 or s < FEW]
UNIT = 127 / (0.275 / 13 * FPS)  # motion bucket of one side a second, as the embedded model was taught


def measure(model: VideoModel, *, seed: int, way: str) -> list[dict]:
    clip = world_clips(1, frames=FRAMES, first=seed)[0]
    speed = float(clip.scene.actors[0, 0, 5]) / (FRAMES - 1)
    image = clip.frames[0 if way == "forward" else -1]
    how = {"frames": FRAMES, "steps": STEPS, "fps": FPS, "motion_bucket": UNIT * FPS * speed, "seed": seed}
    frames = animate(model, image, **how, **WAYS[way], progress=False).frames
    frames = frames.flip(0) if way == "plain" else frames
    ground = empty_scene(clip)
    track, truth = actor_track(frames, ground), actor_track(clip.frames, ground)
    end = 0 if way == "forward" else -1
    return [
        {
            "net": net_displacement(track, clip.facing),
            "true_net": net_displacement(truth, clip.facing),
            "accuracy": direction_accuracy(track, clip.facing),
            "index": back_and_forth(track),
            "key": float(psnr(frames[end][None], image[None])),
            "psnr": float(psnr(frames, clip.frames).mean()),
        }
    ]
