"""The motion of a video whose temporal attention maps are those of its mirrored twin."""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from experiments.studies import study
from interp_lib.bench.motion import actor_track, net_displacement, world_ground
from interp_lib.inbetweening.prepare import condition_keyframe
from interp_lib.inbetweening.sampling import Keyframe, Schedule, denoised, euler, guided, ramps, schedule
from interp_lib.inbetweening.temporal import record_temporal_attention, rotate_map, rotate_temporal_attention
from interp_lib.models.video_model import VideoModel
from interp_lib.world.clips import calm_scene
from interp_lib.world.render import render

FRAMES, STEPS, SIZE = 14, 6, 64
KINDS = [(what, maps) for what in ("actor", "ball") for maps in ("own", "twin")]


@study("video", [{"seed": s, "what": what, "maps": maps} for s in range(24) for what, maps in KINDS])
def exchange(model: VideoModel, *, seed: int, what: str, maps: str) -> list[dict]:
    """Does the motion live in the temporal attention? A video made with the maps of its twin that faces the other way.

    Calm scenes of 14 frames and, beside each, its twin: the same scene, its actor mirrored where it stands, so that it
    goes the other way. Both videos are made side by side from the same noise; what: "actor", whose face says where it
    will go, or "ball", of which the first frame does not say it. maps: "own", or "twin": at every step the first video
    uses the maps of the second one in all its temporal self-attention. The first 24 held-out scenes of each, 6 steps.
    net: displacement along the first scene's way, in pixels of 64. other: the same of the twin's video along its own
    way, for "own".
    """
    scene = calm_scene(seed, ball=what == "ball")
    actors = scene.actors.clone()
    actors[:, 0, 2] *= -1
    scenes = (scene, replace(scene, actors=actors))
    images = [render(x, 0.0, size=SIZE) for x in scenes]
    net, other = (
        net_displacement(actor_track(frames, world_ground(x, SIZE)), float(x.actors[0, 0, 2]))
        for frames, x in zip(_side_by_side(model, images, seed, exchange=maps == "twin"), scenes, strict=True)
    )
    return [{"net": net, "other": other if maps == "own" else None}]


@torch.no_grad()
def _side_by_side(model: VideoModel, images: list[Tensor], seed: int, *, exchange: bool) -> list[Tensor]:
    """Two image-to-video runs [T,3,H,W] from one noise; with `exchange` the first one uses the maps of the second."""
    generator = torch.Generator().manual_seed(seed)
    plan, side = schedule(model, STEPS), SIZE // model.vae_factor
    noise = torch.randn((1, FRAMES, model.latent_channels, side, side), generator=generator) * plan.start
    on_image = torch.randn(images[0].shape, generator=generator)
    keys = [condition_keyframe(model, image, on_image, (7, 127, 0.02)) for image in images]
    first = second = noise
    for i in range(STEPS):
        with record_temporal_attention(model.unet) as recorded:
            second = _step(model, second, keys[1], plan, i)
        turned = {name: rotate_map(a) for name, a in recorded.maps.items()}  # turned twice, a map is itself
        with rotate_temporal_attention(model.unet, turned) if exchange else nullcontext():
            first = _step(model, first, keys[0], plan, i)
    return [model.decode(z) for z in (first, second)]


def _step(model: VideoModel, z: Tensor, key: Keyframe, plan: Schedule, i: int) -> Tensor:
    sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
    ((without, image),) = guided(model, [z], [key], sigma, plan.timesteps[i])
    v = without + ramps((1.0, 3.0), FRAMES, constant=False) * (image - without)
    return euler(z, denoised(z, v, sigma), sigma, below)
