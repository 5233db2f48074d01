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

from experiments.studies._calm import ALL, HOW, held_out, measured
from interp_lib.bench.metrics import psnr
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models.video_model import VideoModel

VERSION = 1
MODEL = "video"
FEW = 50
WAYS = {
    "tuned": {"method": "dual"},
    "tuned, mid-block": {"method": "dual", "rotate": "mid_block"},
    "tuned, up-blocks": {"method": "dual", "rotate": "up_blocks"},
    "rotated": {"method": "no-finetune"},
    "rotated everywhere": {"method": "no-finetune", "rotate": ALL},
    "unrotated": {"method": "no-rotation"},
}
ITEMS = [{"seed": s, "way": way} for s in range(200) for way in WAYS if way == "tuned" or s < FEW]


def measure(model: VideoModel, *, seed: int, way: str) -> list[dict]:
    clip, bucket = held_out(seed)
    ends = clip.frames[:1], clip.frames[-1:]
    how = HOW | {"recurrence": 0, "fuse": 0.0, "motion_bucket_id": bucket, "seed": seed}
    frames = inbetween(model, *ends, **how, **WAYS[way]).frames
    return [measured(frames, clip, given=-1) | {"first": float(psnr(frames[:1], ends[0]))}]
