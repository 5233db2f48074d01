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
from tests.robustness.harness import Row, refuse

NAN, INF = float("nan"), float("inf")


def of(function, ground_arguments):
    """Rows of one function from (what is wrong, its options, what is said)."""

    def rows(*wrong):
        return [
            Row(f"{function.__name__}: {about}", lambda g, how=how: function(*ground_arguments(g), **how), says)
            for about, how, says in wrong
        ]

    return rows


def entering(manager, about, model, how, says):
    """A row of a context manager around the U-Net of a model."""

    def call(ground):
        with manager(getattr(ground, model).unet, **how):
            pass

    return Row(f"{manager.__name__}: {about}", call, says)


def inversion(ground):
    """As `invert` gives it, of zeros: nothing here may look at it before its arguments are checked."""
    z = torch.zeros(2, ground.image.latent_channels, 8, 8)
    return Inversion([z, z], z, z, torch.tensor([1]), 0.5, 50)


WHOLE, FINITE = "is out of range: give a whole number", "is out of range: give a finite number"
clip = torch.rand(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
flow = torch.zeros(1, 2, 8, 8)

ROWS = [
    *of(interpolate, lambda g: (g.image, g.first, g.last))(
        ("frames a float", {"frames": 2.0}, f"frames=2.0 {WHOLE}"),
        ("frames a text", {"frames": "3"}, f"frames='3' {WHOLE}"),
        ("frames a switch", {"frames": True}, f"frames=True {WHOLE}"),
        ("frames a tensor", {"frames": torch.zeros(2, 2)}, rf"frames=tensor\(.* {WHOLE}"),
        ("steps NaN", {"steps": NAN}, f"steps=nan {WHOLE}"),
        ("steps beyond training", {"steps": 1000}, f"steps=1000 {WHOLE}"),
        (
            "inversion_steps beyond steps",
            {"steps": 10, "inversion_steps": 11},
            f"inversion_steps=11 {WHOLE}",
        ),
        ("batch_size a text", {"batch_size": "all"}, f"batch_size='all' {WHOLE}"),
        ("seed a float", {"seed": 0.5}, f"seed=0.5 {WHOLE}"),
        ("seed too large", {"seed": 2**70}, f"seed=.* {WHOLE}"),
        ("preset", {"preset": "fast"}, "preset='fast' is unknown: choose one of 'paper', 'released'"),
        ("preset a number", {"preset": 1}, "preset=1 is unknown: choose one of"),
        ("a text for a switch", {"two_level": "no"}, "two_level='no' is no switch: give True or False"),
        ("None for a switch", {"attention": None}, "attention=None is no switch: give True or False"),
        ("endpoints", {"endpoints": True}, "endpoints=True is unknown: choose one of 'input'"),
        ("flow by name", {"flow": "farneback"}, "flow='farneback' is unknown: choose one of"),
        ("one flow", {"flow": flow}, r"flow must be a name or two tensors \(flow01, flow10\)"),
        ("flow of NaN", {"flow": (flow, flow * NAN)}, "flow10 contains NaN .*: fill what is unknown"),
        ("flow of another grid", {"flow": (flow[..., :7], flow)}, r"flow01 has shape .*: give \[1,2,"),
        ("a LoRA by number", {"lora": 0.5}, "lora is a float: give True, False, a handle"),
        ("prompt", {"prompt": ["a", "b"]}, "prompt is a list: give one string"),
        ("a prompt too long", {"prompt": "word " * 100}, "has .* tokens: at most .*, so shorten it"),
        ("a prompt that is no Unicode", {"prompt": "\ud800"}, "prompt='.ud800' .*: give"),
        ("on_step", {"on_step": 3}, "on_step is a int: give a function"),
    ),
    Row(
        "interpolate: a name for a model", lambda g: interpolate("embedded", g.first, g.last), "a str: give load_image"
    ),
    Row("interpolate: a video model", lambda g: interpolate(g.video, g.first, g.last), "VideoModel: give load_image"),
    Row(
        "interpolate: identical", lambda g: interpolate(g.image, g.first, g.first.clone()), "are identical: .*give two"
    ),
    Row(
        "interpolate: NaN", lambda g: interpolate(g.image, g.first, g.last * NAN), "image1 contains NaN .*: images are"
    ),
    Row("interpolate: a path", lambda g: interpolate(g.image, "a.png", g.last), "image0 is of type str: give a tensor"),
    *of(suitability, lambda g: (g.image, g.first, g.last))(
        ("steps a text", {"steps": "8"}, f"steps='8' {WHOLE}"),
    ),
    Row("suitability: a name for a model", lambda g: suitability("tiny", g.first, g.last), "a str: give load_image"),
    *(
        Row(
            f"{look.__name__}: a name for a model",
            lambda g, look=look: look("tiny", Pair("a", g.first, g.last)),
            "a str: give load_",
        )
        for look in (explore_correspondence, explore_fusion, explore_attention, explore_temporal_maps)
    ),
    *of(invert, lambda g: (g.image, g.first))(
        ("steps", {"steps": -1}, f"steps=-1 {WHOLE}"),
        ("inversion_steps", {"inversion_steps": 0}, f"inversion_steps=0 {WHOLE}"),
        ("preset", {"preset": None}, "preset=None is unknown: choose one of"),
        ("prompt", {"prompt": 3}, "prompt=3 is no text: give a string"),
    ),
    Row("invert: no image", lambda g: invert(g.image, []), "images have 0 different sizes: bring them to one"),
    Row("invert: size", lambda g: invert(g.image, g.first[..., :60]), "60x64 pixels .*: both sides must be multiples"),
    *of(diffusion_features, lambda g: (g.image, g.first))(
        ("step", {"step": 51}, f"step=51 {WHOLE}"),
        ("block", {"block": 1.0}, f"block=1.0 {WHOLE}"),
        ("inversion", {"inversion": "x"}, "inversion is a str: give what invert"),
    ),
    Row("estimate_flow: no inversion", lambda g: estimate_flow(g.image, g.first), "inversion is a Tensor: give what"),
    Row("estimate_flow: step", lambda g: estimate_flow(g.image, inversion(g), step=0), f"step=0 {WHOLE}"),
    Row("feature_block: model", lambda g: feature_block("embedded", 64), "model is a str: give load_image_model"),
    Row("feature_block: size", lambda g: feature_block(g.image, "64"), f"size='64' {WHOLE}"),
    Row(
        "denoise_between: middle",
        lambda g: next(denoise_between(g.image, inversion(g), torch.zeros(1, 3, 8, 8))),
        r"middle is \[1, 3, 8, 8\]: give latents \[n,",
    ),
    *of(fit_lora, lambda g: (g.image, g.first))(
        ("rank", {"rank": 0}, f"rank=0 {WHOLE}"),
        ("steps", {"steps": True}, f"steps=True {WHOLE}"),
        ("lr NaN", {"lr": NAN}, f"lr=nan {FINITE}"),
        ("lr a text", {"lr": "fast"}, f"lr='fast' {FINITE}"),
        ("seed", {"seed": None}, f"seed=None {WHOLE}"),
    ),
    *of(inbetween, lambda g: (g.video, g.first, g.last))(
        ("frames", {"frames": 1}, f"frames=1 {WHOLE}"),
        ("frames too many", {"frames": 26}, f"frames=26 {WHOLE}"),
        ("method", {"method": "rife"}, "method='rife' is unknown: choose one of 'dual'"),
        ("a method without deltas", {"method": "no-rotation"}, "needs backward-motion deltas, .*: fit them with"),
        ("steps", {"steps": 1.5}, f"steps=1.5 {WHOLE}"),
        ("recurrence", {"recurrence": -1}, f"recurrence=-1 {WHOLE}"),
        ("guidance_scale one number", {"guidance_scale": 3}, "guidance_scale=3: give two numbers"),
        ("guidance_scale infinite", {"guidance_scale": (1, INF)}, "guidance_scale=.*: give two numbers"),
        ("seed too large", {"seed": 2**64}, f"seed=.* {WHOLE}"),
        ("fps", {"fps": NAN}, f"fps=nan {FINITE}"),
        ("motion_bucket_id", {"motion_bucket_id": "much"}, f"motion_bucket_id='much' {FINITE}"),
        ("fuse", {"fuse": NAN}, "fuse has weights outside 0 to 1: give"),
        ("rotate a number", {"rotate": 3}, "blocks=3 names no blocks: give 'up_blocks'"),
        ("rotate unknown", {"rotate": ["up_blocks.9"]}, "'up_blocks.9' has no temporal self-attention: the blocks are"),
        ("size", {"size": (64, 64, 64)}, "size=.*: give one number of pixels"),
        ("latents", {"latents": torch.zeros(3)}, r"latents: \[3\] given, finite unit noise of shape"),
        ("on_step", {"on_step": "print"}, "on_step is a str: give a function"),
    ),
    Row(
        "inbetween: an image model", lambda g: inbetween(g.image, g.first, g.last), "ImageModel: give load_video_model"
    ),
    Row("inbetween: identical", lambda g: inbetween(g.video, g.first, g.first), "are identical: .*give two different"),
    *of(animate, lambda g: (g.video, g.first))(
        ("reverse", {"reverse": "yes"}, "reverse='yes' is no switch: give True or False"),
        ("method", {"method": "trf"}, "method='trf' is unknown: choose one of"),
        ("noise", {"noise_aug_strength": INF}, f"noise_aug_strength=inf {FINITE}"),
    ),
    Row("animate: a batch", lambda g: animate(g.video, clip[0]), "image is a batch of 2: give one image"),
    Row("draw_clips: bytes", lambda g: draw_clips(g.video, (g.first * 255).byte()), "uint8 values: .*divide by 255"),
    *of(fit_backward_motion, lambda g: (g.video, clip))(
        ("steps", {"steps": "9"}, f"steps='9' {WHOLE}"),
        ("lr", {"steps": 1, "lr": 0}, f"lr=0 {FINITE} above 0"),
        ("seed", {"steps": 1, "seed": "x"}, f"seed='x' {WHOLE}"),
        ("seed too large", {"steps": 1, "seed": 2**62}, f"seed=.* {WHOLE}"),
        ("save_every", {"steps": 1, "save_every": 0}, f"save_every=0 {WHOLE}"),
        ("log_sigma", {"steps": 1, "log_sigma": 0.7}, "log_sigma=0.7: give a mean and a standard deviation"),
        ("log_sigma NaN", {"steps": 1, "log_sigma": (NAN, 1)}, rf"log_sigma\[0\]=nan {FINITE}"),
        ("rotate", {"steps": 1, "rotate": "no"}, "rotate='no' is no switch: give True or False"),
        (
            "motion_bucket_id",
            {"steps": 1, "motion_bucket_id": [1, 2]},
            "motion_bucket_id: give one number, or one for each",
        ),
        ("batch", {"steps": 1, "batch": None}, f"batch=None {WHOLE}"),
    ),
    Row("fit_backward_motion: no clips", lambda g: fit_backward_motion(g.video, [], steps=1), "clips: give tensors"),
    entering(replace_self_attention, "blocks", "image", {"blocks": 9}, "blocks=9 names no up-block: .* has 4, counted"),
    entering(
        replace_self_attention, "blocks a text", "image", {"blocks": "9"}, "blocks='9' names no up-block: .* has 4"
    ),
    entering(replace_self_attention, "no blocks", "image", {"blocks": ()}, "the up-blocks with attention are"),
    entering(replace_self_attention, "preset", "image", {"preset": "x"}, "preset='x' is unknown: choose one of"),
    entering(record_temporal_attention, "an image model", "image", {}, "use the U-Net of a video model"),
    entering(rotate_temporal_attention, "no maps", "video", {"maps": {}}, "maps has none for .*: record them with"),
    entering(rotate_temporal_attention, "a number", "video", {"maps": 3}, "maps is a int: record them with"),
    entering(two_directions, "an image model", "image", {}, "use the U-Net of a video model"),
    entering(
        two_directions, "rotate", "video", {"rotate": ["x"]}, "'x' has no temporal self-attention: the blocks are"
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_refused(ground, row):
    refuse(row, ground)


def test_a_checkpoint_without_a_folder_is_refused_before_the_first_step(ground):
    def call(g):
        fit_backward_motion(g.video, clip, steps=1, checkpoint=g.out / "none" / "a.checkpoint")

    said = "a.checkpoint: the folder .*none does not exist; make it"
    refuse(Row("fit_backward_motion: checkpoint", call, said, FileNotFoundError), ground)
