"""What the studies of calm clips share: the task, and what is measured of a video of it."""

from typing import Any

from torch import Tensor

from interp_lib.bench.metrics import psnr
from interp_lib.bench.motion import (
    actor_track,
    back_and_forth,
    direction_accuracy,
    net_displacement,
    world_clips,
    world_ground,
)
from interp_lib.world.truth import Clip

FRAMES, FPS = 14, 7
HOW = {"frames": FRAMES, "steps": 6, "fps": FPS, "progress": False}
UNIT = 127 / (0.275 / 13 * FPS)  # motion bucket of one side a second, as the embedded model was taught
ALL = ["down_blocks", "mid_block", "up_blocks"]


def held_out(seed: int) -> tuple[Clip, float]:
    """A held-out clip, and the motion bucket of its true speed."""
    clip = world_clips(1, frames=FRAMES, first=seed)[0]
    return clip, UNIT * FPS * (float(clip.scene.actors[0, 0, 5]) / (FRAMES - 1))


def measured(frames: Tensor, clip: Clip, *, given: int) -> dict[str, Any]:
    """Net displacement, true and made, direction, index, PSNR of frame number `given` and of all against the clip's."""
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
