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
INF = float("inf")
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
    (interpolate, rf"frames=tensor\(.* {WHOLE}", image_pair, {"frames": torch.zeros(2, 2)}),
    (interpolate, f"steps=1000 {WHOLE}", image_pair, {"steps": 1000}),
    (interpolate, f"inversion_steps=51 {WHOLE}", image_pair, {"inversion_steps": 51}),
    (interpolate, f"batch_size='all' {WHOLE}", image_pair, {"batch_size": "all"}),
    (interpolate, f"seed=0.5 {WHOLE}", image_pair, {"seed": 0.5}),
    (interpolate, f"seed=.* {WHOLE}", image_pair, {"seed": 2**70}),
    (interpolate, "preset='fast' is unknown: choose one of 'paper', 'released'", image_pair, {"preset": "fast"}),
    (interpolate, "two_level='no' is no switch: give True or False", image_pair, {"two_level": "no"}),
    (interpolate, "attention=None is no switch: give True or False", image_pair, {"attention": None}),
    (interpolate, "endpoints=True is unknown: choose one of 'input'", image_pair, {"endpoints": True}),
    (interpolate, "flow='farneback' is unknown: choose one of", image_pair, {"flow": "farneback"}),
    (interpolate, r"flow must be a name or two tensors \(flow01, flow10\)", image_pair, {"flow": flow}),
    (interpolate, "flow10 contains NaN .*: fill what is unknown", image_pair, {"flow": (flow, flow * NAN)}),
    (interpolate, r"flow01 has shape .*: give \[1,2,", image_pair, {"flow": (flow[..., :7], flow)}),
    (interpolate, "lora is a float: give True, False, a handle", image_pair, {"lora": 0.5}),
    (interpolate, "prompt is a list: give one string", image_pair, {"prompt": ["a", "b"]}),
    (interpolate, "has .* tokens: at most .*, so shorten it", image_pair, {"prompt": "word " * 100}),
    (interpolate, "prompt='.ud800' .*: give", image_pair, {"prompt": "\ud800"}),
    (interpolate, "a str: give load_image", lambda g: ("embedded", g.first, g.last)),
    (interpolate, "VideoModel: give load_image", video_pair),
    (interpolate, "are identical.*give two", lambda g: (g.image, g.first, g.first.clone())),
    (interpolate, "image1 contains NaN .*: images are", lambda g: (g.image, g.first, g.last * NAN)),
    (interpolate, "image0 is of type str: give a tensor", lambda g: (g.image, "a.png", g.last)),
    (suitability, f"steps='8' {WHOLE}", image_pair, {"steps": "8"}),
    *((look, "a str: give load_", lambda g: ("tiny", Pair("a", g.first, g.last))) for look in EXPLORERS),
    (invert, f"steps=-1 {WHOLE}", one_image, {"steps": -1}),
    (invert, f"inversion_steps=0 {WHOLE}", one_image, {"inversion_steps": 0}),
    (invert, "preset=None is unknown: choose one of", one_image, {"preset": None}),
    (invert, "prompt=3 is no text: give a string", one_image, {"prompt": 3}),
    (invert, "images have 0 different sizes: bring them to one", lambda g: (g.image, [])),
    (invert, "60x64 pixels .*: both sides must be multiples", lambda g: (g.image, g.first[..., :60])),
    (diffusion_features, f"step=51 {WHOLE}", one_image, {"step": 51}),
    (diffusion_features, f"block=1.0 {WHOLE}", one_image, {"block": 1.0}),
    (diffusion_features, "inversion is a str: give what invert", one_image, {"inversion": "x"}),
    (estimate_flow, "inversion is a Tensor: give what", lambda g: (g.image, g.first)),
    (estimate_flow, f"step=0 {WHOLE}", lambda g: (g.image, inversion(g)), {"step": 0}),
    (feature_block, "model is a str: give load_image_model", ("embedded", 64)),
    (feature_block, f"size='64' {WHOLE}", lambda g: (g.image, "64")),
    (denoised, r"middle is \[1, 3, 8, 8\]: give", lambda g: (g.image, inversion(g), torch.zeros(1, 3, 8, 8))),
    (fit_lora, f"rank=0 {WHOLE}", one_image, {"rank": 0}),
    (fit_lora, f"steps=True {WHOLE}", one_image, {"steps": True}),
    (fit_lora, f"lr=nan {FINITE}", one_image, {"lr": NAN}),
    (fit_lora, f"seed=None {WHOLE}", one_image, {"seed": None}),
    (fit_lora, "model is a str: give load_image_model", lambda g: ("embedded", g.first)),
    (inbetween, f"frames=26 {WHOLE}", video_pair, {"frames": 26}),
    (inbetween, "method='rife' is unknown: choose one of 'dual'", video_pair, {"method": "rife"}),
    (inbetween, "needs backward-motion deltas, .*: fit them with", video_pair, {"method": "no-rotation"}),
    (inbetween, f"steps=1.5 {WHOLE}", video_pair, {"steps": 1.5}),
    (inbetween, f"recurrence=-1 {WHOLE}", video_pair, {"recurrence": -1}),
    (inbetween, "guidance_scale=3: give two numbers", video_pair, {"guidance_scale": 3}),
    (inbetween, "guidance_scale=.*: give two numbers", video_pair, {"guidance_scale": (1, INF)}),
    (inbetween, f"seed=.* {WHOLE}", video_pair, {"seed": 2**64}),
    (inbetween, f"fps=nan {FINITE}", video_pair, {"fps": NAN}),
    (inbetween, f"motion_bucket_id='much' {FINITE}", video_pair, {"motion_bucket_id": "much"}),
    (inbetween, "fuse has weights outside 0 to 1: give", video_pair, {"fuse": NAN}),
    (inbetween, "blocks=3 names no blocks: give 'up_blocks'", video_pair, {"rotate": 3}),
    (inbetween, "'up_blocks.9' has no temporal self-attention", video_pair, {"rotate": ["up_blocks.9"]}),
    (inbetween, "size=.*: give one number of pixels", video_pair, {"size": (64, 64, 64)}),
    (inbetween, r"latents: \[3\] given, finite unit noise of shape", video_pair, {"latents": torch.zeros(3)}),
    (inbetween, "on_step is a str: give a function", video_pair, {"on_step": "print"}),
    (inbetween, "ImageModel: give load_video_model", image_pair),
    (inbetween, "are identical.*give two different", lambda g: (g.video, g.first, g.first)),
    (animate, "reverse='yes' is no switch: give True or False", one_frame, {"reverse": "yes"}),
    (animate, "method='trf' is unknown: choose one of", one_frame, {"method": "trf"}),
    (animate, f"noise_aug_strength=inf {FINITE}", one_frame, {"noise_aug_strength": INF}),
    (animate, "image is a batch of 2: give one image", lambda g: (g.video, clip[0])),
    (draw_clips, "uint8 values: .*divide by 255", lambda g: (g.video, (g.first * 255).byte())),
    (fit_backward_motion, f"steps='9' {WHOLE}", training, {"steps": "9"}),
    (fit_backward_motion, f"lr=0 {FINITE} above 0", training, {"steps": 1, "lr": 0}),
    (fit_backward_motion, f"seed=.* {WHOLE}", training, {"steps": 1, "seed": 2**62}),
    (fit_backward_motion, f"save_every=0 {WHOLE}", training, {"steps": 1, "save_every": 0}),
    (fit_backward_motion, "log_sigma=0.7: give a mean and a", training, {"steps": 1, "log_sigma": 0.7}),
    (fit_backward_motion, "rotate='no' is no switch: give True or False", training, {"steps": 1, "rotate": "no"}),
    (fit_backward_motion, "motion_bucket_id: give one number, or", training, {"steps": 1, "motion_bucket_id": [1, 2]}),
    (fit_backward_motion, f"batch=None {WHOLE}", training, {"steps": 1, "batch": None}),
    (fit_backward_motion, "clips: give tensors", lambda g: (g.video, []), {"steps": 1}),
    (fit_backward_motion, "a str: give load_video", lambda g: ("x", g.first), {"steps": 1}),
    (fit_backward_motion, "folder none does not exist", training, {"steps": 1, "checkpoint": "none/a"}, MISSING),
    (entered, "blocks=9 names no up-block: .* has 4, counted", replacing, {"blocks": 9}),
    (entered, "blocks='9' names no up-block: .* has 4", replacing, {"blocks": "9"}),
    (entered, "the up-blocks with attention are", replacing, {"blocks": ()}),
    (entered, "preset='x' is unknown: choose one of", replacing, {"preset": "x"}),
    (entered, "use the U-Net of a video model", lambda g: (record_temporal_attention, g.image.unet)),
    (entered, "use the U-Net of a video model", lambda g: (two_directions, g.image.unet)),
    (entered, "maps has none for .*: record them with", rotating, {"maps": {}}),
    (entered, "maps is a int: record them with", rotating, {"maps": 3}),
    (entered, "'x' has no temporal self-attention", lambda g: (two_directions, g.video.unet), {"rotate": ["x"]}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].__name__)
def test_refused(ground, row):
    refuse(ground, *row)
