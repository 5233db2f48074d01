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

from experiments.studies._calm import ALL, HOW, held_out, measured
from interp_lib.inbetweening.animate import animate
from interp_lib.models.video_model import VideoModel

VERSION = 1
MODEL = "video"
FEW = 24
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


def measure(model: VideoModel, *, seed: int, way: str) -> list[dict]:
    clip, bucket = held_out(seed)
    given = 0 if way == "forward" else -1
    frames = animate(model, clip.frames[given], motion_bucket_id=bucket, seed=seed, **HOW, **WAYS[way]).frames
    return [measured(frames.flip(0) if way == "plain" else frames, clip, given=given)]
