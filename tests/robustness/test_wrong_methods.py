"""Wrong arguments of the two methods and of their parts that run a network; the methods' own tests have more values."""

import pytest
import torch

from interp_lib import (
    Pair,
    animate,
    denoise_between,
    diffusion_features,
    draw_clips,
    estimate_flow,
    feature_block,
    fit_backward_motion,
    fit_lora,
    inbetween,
    inbetween_sequence,
    interpolate,
    invert,
    record_temporal_attention,
    replace_self_attention,
    rotate_temporal_attention,
    suitability,
    two_directions,
)
from interp_lib.dreammover.ddim import Inversion
from interp_lib.show import explore_attention, explore_correspondence, explore_fusion, explore_temporal_maps
from tests.robustness.harness import FINITE, MISSING, NAN, WHOLE, refuse

clip = torch.rand(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
flow = torch.zeros(1, 2, 8, 8)
INF, LOOP = float("inf"), {"loop": True}
EXPLORERS = (explore_correspondence, explore_fusion, explore_attention, explore_temporal_maps)


def inversion(g):
    """As `invert` gives it, of zeros: nothing here may look at it before its arguments are checked."""
    z = torch.zeros(2, g.image.latent_channels, 8, 8)
    return Inversion([z, z], z, z, torch.tensor([1]), 0.5, 50)


def entered(manager, unet, **options):
    with manager(unet, **options):
        pass


def denoised(*arguments):
    next(denoise_between(*arguments))


def replacing(g):
    return replace_self_attention, g.image.unet


def rotating(g):
    return rotate_temporal_attention, g.video.unet


def one_image(g):
    return g.image, g.first


def one_frame(g):
    return g.video, g.first


def training(g):
    return g.video, clip


def image_pair(g):
    return g.image, g.first, g.last


def video_pair(g):
    return g.video, g.first, g.last


ROWS = [
    (interpolate, f"frames=2.0 {WHOLE}", image_pair, {"frames": 2.0}),
    (interpolate, f"frames=True {WHOLE}", image_pair, {"frames": True}),
    (interpolate, f"steps=1000 {WHOLE}", image_pair, {"steps": 1000}),
    (interpolate, f"inversion_steps=51 {WHOLE}", image_pair, {"inversion_steps": 51}),
    (interpolate, f"seed=0.5 {WHOLE}", image_pair, {"seed": 0.5}),
    (interpolate, "preset='fast' is unknown: choose one of 'paper', 'released'", image_pair, {"preset": "fast"}),
    (interpolate, "two_level='no' is no switch: give True or False", image_pair, {"two_level": "no"}),
    (interpolate, "flow='farneback' is unknown: choose one of", image_pair, {"flow": "farneback"}),
    (interpolate, r"flow must be a name or two tensors \(flow01, flow10\)", image_pair, {"flow": flow}),
    (interpolate, "flow10 contains NaN .*: fill what is unknown", image_pair, {"flow": (flow, flow * NAN)}),
    (interpolate, r"flow01 has shape .*: give \[1,2,", image_pair, {"flow": (flow[..., :7], flow)}),
    (interpolate, "lora is a float: give True, False, a handle", image_pair, {"lora": 0.5}),
    (interpolate, "has .* tokens: at most .*, so shorten it", image_pair, {"prompt": "word " * 100}),
    (interpolate, "prompt='.ud800' .*: give", image_pair, {"prompt": "\ud800"}),
    (interpolate, "a str: give load_image", lambda g: ("embedded", g.first, g.last)),
    (interpolate, "VideoModel: give load_image", video_pair),
    (interpolate, "are identical.*give two", lambda g: (g.image, g.first, g.first.clone())),
    (interpolate, "image1 contains NaN .*: images are", lambda g: (g.image, g.first, g.last * NAN)),
    (suitability, f"steps='8' {WHOLE}", image_pair, {"steps": "8"}),
    *((look, "a str: give load_", lambda g: ("tiny", Pair("a", g.first, g.last))) for look in EXPLORERS),
    (invert, f"inversion_steps=0 {WHOLE}", one_image, {"inversion_steps": 0}),
    (invert, "images have 0 different sizes: bring them to one", lambda g: (g.image, [])),
    (invert, "60x64 pixels .*: both sides must be multiples", lambda g: (g.image, g.first[..., :60])),
    (diffusion_features, f"step=51 {WHOLE}", one_image, {"step": 51}),
    (estimate_flow, "inversion is a Tensor: give what", lambda g: (g.image, g.first)),
    (feature_block, f"size='64' {WHOLE}", lambda g: (g.image, "64")),
    (denoised, r"middle is \[1, 3, 8, 8\]: give", lambda g: (g.image, inversion(g), torch.zeros(1, 3, 8, 8))),
    (fit_lora, f"rank=0 {WHOLE}", one_image, {"rank": 0}),
    (fit_lora, f"lr=nan {FINITE}", one_image, {"lr": NAN}),
    (inbetween, f"frames=26 {WHOLE}", video_pair, {"frames": 26}),
    (inbetween, "method='rife' is unknown: choose one of 'dual'", video_pair, {"method": "rife"}),
    (inbetween, "preset='fast' is unknown: choose one of", video_pair, {"preset": "fast"}),
    (inbetween, "needs backward-motion deltas, .*no_rotation.*rotate=False", video_pair, {"method": "no-rotation"}),
    (inbetween, f"recurrence=-1 {WHOLE}", video_pair, {"recurrence": -1}),
    (inbetween, "guidance_scale=3: give two numbers", video_pair, {"guidance_scale": 3}),
    (inbetween, "guidance_scale=.*: give two numbers", video_pair, {"guidance_scale": (1, INF)}),
    (inbetween, f"seed=.* {WHOLE}", video_pair, {"seed": 2**64}),
    (inbetween, f"motion_bucket_id='much' {FINITE}", video_pair, {"motion_bucket_id": "much"}),
    (inbetween, "fuse does not fit 14 frames: give", video_pair, {"fuse": NAN}),
    (inbetween, "fuse does not fit 3 frames: give", video_pair, {"fuse": torch.ones(4), "frames": 3}),
    (inbetween, "fuse does not fit .* give 'average', 'linear'", video_pair, {"fuse": "mean"}),
    (inbetween, "'up_blocks.9' has no temporal self-attention", video_pair, {"rotate": ["up_blocks.9"]}),
    (inbetween, "method='trf' rotates no maps", video_pair, {"method": "trf", "rotate": "up_blocks"}),
    (inbetween, "size=.*: give one number of pixels", video_pair, {"size": (64, 64, 64)}),
    (inbetween, r"latents: \[3\] given, finite unit noise of shape", video_pair, {"latents": torch.zeros(3)}),
    (inbetween, "latents: .* finite", video_pair, {"latents": torch.full((1, 3, 4, 8, 8), NAN), "frames": 3}),
    (inbetween, "ImageModel: give load_video_model", image_pair),
    (inbetween, "are identical.*give two different", lambda g: (g.video, g.first, g.first)),
    (inbetween, "frame0 is a batch of 2: give one image", lambda g: (g.video, clip[0], g.last)),
    (inbetween, "frame1 contains NaN", lambda g: (g.video, g.first, g.last * NAN)),
    (inbetween_sequence, "images has length 1: give two", lambda g: (g.video, [g.first])),
    (inbetween_sequence, r"images\[1\] and images\[2\] are identical", lambda g: (g.video, [g.first, g.last, g.last])),
    (inbetween_sequence, r"images\[2\] and images\[0\] are", lambda g: (g.video, [g.first, g.last, g.first]), LOOP),
    (animate, "reverse='yes' is no switch: give True or False", one_frame, {"reverse": "yes"}),
    (animate, "method='trf' is unknown: choose one of", one_frame, {"method": "trf"}),
    (animate, "method='forward' rotates no maps", one_frame, {"rotate": "up_blocks"}),
    (animate, f"noise_aug_strength=inf {FINITE}", one_frame, {"noise_aug_strength": INF}),
    (draw_clips, "uint8 values: .*divide by 255", lambda g: (g.video, (g.first * 255).byte())),
    (fit_backward_motion, f"steps='9' {WHOLE}", training, {"steps": "9"}),
    (fit_backward_motion, f"lr=0 {FINITE} above 0", training, {"steps": 1, "lr": 0}),
    (fit_backward_motion, f"seed=.* {WHOLE}", training, {"steps": 1, "seed": 2**62}),
    (fit_backward_motion, "rotate='no' is no switch: give True or False", training, {"steps": 1, "rotate": "no"}),
    (fit_backward_motion, "motion_bucket_id: give one number, or", training, {"steps": 1, "motion_bucket_id": [1, 2]}),
    (fit_backward_motion, "a str: give load_video", lambda g: ("x", g.first), {"steps": 1}),
    (fit_backward_motion, "folder none does not exist", training, {"steps": 1, "checkpoint": "none/a"}, MISSING),
    (fit_backward_motion, "clips: give tensors .*load_clips", lambda g: (g.video, []), {"steps": 1}),
    (fit_backward_motion, r"clips\[0\] is of type str", lambda g: (g.video, "folder"), {"steps": 1}),
    (fit_backward_motion, r"clips\[0\] contains NaN", lambda g: (g.video, clip * NAN), {"steps": 1}),
    (fit_backward_motion, "clips.1. has shape .*one size", lambda g: (g.video, [clip[0], clip[0, :1]]), {"steps": 1}),
    (fit_backward_motion, "of a clip=1 ", lambda g: (g.video, clip[:, :1]), {"steps": 1}),
    (fit_backward_motion, "=26 .*model takes = 25", lambda g: (g.video, clip.repeat(1, 13, 1, 1, 1)), {"steps": 1}),
    (fit_backward_motion, "64x32 pixels: .*multiples of 64", lambda g: (g.video, clip[..., :32, :]), {"steps": 1}),
    (entered, "blocks=9 names no up-block: .* has 4, counted", replacing, {"blocks": 9}),
    (entered, "the up-blocks with attention are", replacing, {"blocks": ()}),
    (entered, "use the U-Net of a video model", lambda g: (record_temporal_attention, g.image.unet)),
    (entered, "use the U-Net of a video model", lambda g: (two_directions, g.image.unet)),
    (entered, "maps has none for .*: record them with", rotating, {"maps": {}}),
    (entered, "'x' has no temporal self-attention", lambda g: (two_directions, g.video.unet), {"rotate": ["x"]}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].__name__)
def test_refused(ground, row):
    refuse(ground, *row)
