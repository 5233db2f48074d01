"""Dual-directional sampling next to what it must do, the bare calls of the U-Net, and what it need not do: two networks
whose maps are stored between them, as the released code of Generative Inbetweening has it."""

from argparse import Namespace
from collections.abc import Iterable
from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor

from experiments.speed.random_models import tuned_weights
from experiments.speed.timing import in_own_process, peak_memory, ratio, release_freed, time_interleaved, unet_batches
from interp_lib.inbetweening import sampling
from interp_lib.inbetweening.pipeline import denoise_together
from interp_lib.inbetweening.prepare import Settings, condition_keyframe
from interp_lib.inbetweening.sampling import denoised, euler, guided, noise_like
from interp_lib.inbetweening.temporal import record_temporal_attention, rotate_temporal_attention
from interp_lib.models import load_video_model
from interp_lib.models.video_model import VideoModel

Task = dict[str, Any]
CONDITIONING = (7, 127, 0.02)  # fps, motion bucket, noise on the keyframes
WAYS = ("as it comes", "whole calls", "two networks")


def dual(args: Namespace) -> dict[str, Any]:
    """Time the three ways in turns, and measure the memory of each in a process of its own.

    overhead: sampling as it comes over the bare calls. against_two: its time over that of two networks. difference: of
    their latents, root mean square over the standard deviation. saved: the memory it holds less than two networks, over
    the weights of one U-Net and the stored maps; whole_against_two and whole_saved likewise where no call saves memory.
    deltas_mib: what a U-Net tuned for backward motion has more than the plain one, which one network holds apart.
    """
    # Memory first: next to this process's own networks others might not fit
    memory = {way: in_own_process(_memory_of, way, args) for way in ("nothing", *WAYS)}
    model = load_with_deltas(args.video_model, args.device)
    task, other = make_task(model, args), second_network(model)
    with torch.no_grad():
        works = {way: lambda way=way: sample(way, model, other, task) for way in WAYS}
        before = model.unet_calls
        with unet_batches(model.unet) as batches:
            one = works["as it comes"]()
        calls = model.unet_calls - before
        works["bare calls"] = lambda: _bare_calls(model, task, batches)
        seconds = time_interleaved(works)
        difference = one - works["two networks"]()
        with record_temporal_attention(model.unet) as recorded:  # what two networks hand over in one step
            guided(model, [task["start"]], task["keys"][:1], 1.0, task["plan"].timesteps[0])
    weights, maps = _mib(model.unet.parameters()), _mib(recorded.maps.values())
    found = {"unet_calls": calls, "unet_batches": batches, "seconds": seconds, "memory_mib": memory}
    found["overhead"] = ratio(seconds, "as it comes", "bare calls")
    found["difference"] = float(difference.square().mean().sqrt() / one.std())
    for prefix, way in (("", "as it comes"), ("whole_", "whole calls")):
        found[f"{prefix}against_two"] = ratio(seconds, way, "two networks")
        found[f"{prefix}saved"] = (memory["two networks"] - memory[way]) / (weights + maps)
    return found | {"unet_weights_mib": weights, "maps_mib": maps, "deltas_mib": _mib(model.reverse.values())}


def _mib(tensors: Iterable[Tensor]) -> float:
    return sum(x.numel() * x.element_size() for x in tensors) / 2**20


def load_with_deltas(source: str, device: str, **options: Any) -> VideoModel:
    """Load a video model with backward motion, random where it comes with none."""
    model = load_video_model(source, device=device, **options)
    if model.reverse is None:
        generator = torch.Generator().manual_seed(0)
        model.reverse = {
            name: 0.1 * w.detach().std() * torch.randn(w.shape, generator=generator).to(w)
            for name, w in tuned_weights(model.unet).items()
        }
    return model


def make_task(model: VideoModel, args: Namespace) -> Task:
    """Return the arguments of `denoise_together` for two random keyframes."""
    generator, size, frames = torch.Generator().manual_seed(0), args.video_size, args.video_frames
    images = torch.rand(2, 3, *size, generator=generator)
    keys = [condition_keyframe(model, x, noise_like(images[:1], generator), CONDITIONING) for x in images.split(1)]
    plan = sampling.schedule(model, args.steps)
    shape = (1, frames, model.latent_channels, *(n // model.vae_factor for n in size))
    how = (frames, args.steps, args.recurrence, (1, 3), CONDITIONING)
    settings = Settings(model, "dual", "paper", *how, fuse="average", rotate=None, seed=1)
    start = noise_like(torch.empty(shape, device=model.device), generator) * plan.start
    return {"settings": settings, "start": start, "keys": keys, "plan": plan}


def sample(way: str, model: VideoModel, other: VideoModel | None, task: Task) -> Tensor:
    """Return the latents at the end, by one of WAYS."""
    model.low_memory = None if way == "as it comes" else False
    if way == "two networks":
        return _two_networks(model, other, task)
    task["settings"].generator.manual_seed(1)
    *_, last = denoise_together(task["settings"], task["start"], task["keys"], task["plan"])
    return last.latents


def second_network(model: VideoModel) -> VideoModel:
    """Return another model whose U-Net is a copy with the deltas added to its weights."""
    other = copy(model)
    other.low_memory = False  # as the released code has it
    other.unet = deepcopy(model.unet)
    for name, delta in model.reverse.items():
        other.unet.get_parameter(name).data += delta.to(other.unet.dtype).to(other.unet.device)
    return other


def _two_networks(model: VideoModel, other: VideoModel, task: Task) -> Tensor:
    """Run the same algorithm (paper, Alg. 2) with a network per direction and every map stored between them."""
    generator, z, plan, settings = torch.Generator().manual_seed(1), task["start"], task["plan"], task["settings"]
    guidance, weights = settings.guidance_scale.to(z), settings.weights.to(z)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for repeat in range(1 + settings.recurrence * (i < int(len(plan.timesteps) / 2))):
            if repeat:
                z = z + (sigma**2 - below**2) ** 0.5 * noise_like(z, generator)
            with record_temporal_attention(model.unet) as maps:
                ((without, image),) = guided(model, [z], task["keys"][:1], sigma, timestep)
            first = denoised(z, without + guidance * (image - without), sigma)
            with rotate_temporal_attention(other.unet, maps):
                ((without, image),) = guided(other, [z.flip(1)], task["keys"][1:], sigma, timestep)
            last = denoised(z, (without + guidance * (image - without)).flip(1), sigma)
            z = euler(z, weights * first + (1 - weights) * last, sigma, below)
    return z


def _bare_calls(model: VideoModel, task: Task, batches: list[int]) -> None:
    """Call the plain U-Net on batches of these sizes, and do nothing else."""
    (z, key), timestep = (task["start"], task["keys"][0]), task["plan"].timesteps[0]
    x = torch.cat([z, key.latent[:, None].expand_as(z)], 2)
    for n in batches:
        inputs = x.expand(n, -1, -1, -1, -1).contiguous()
        model.predict_v(inputs, timestep, key.context.expand(n, -1, -1), key.micro.expand(n, -1))


def _memory_of(way: str, args: Namespace) -> float:
    """Return MiB at the highest of one way in this process, "nothing" for a loaded model that does nothing."""
    model = load_with_deltas(args.video_model, args.device)
    release_freed()
    task, other = make_task(model, args), second_network(model) if way == "two networks" else None
    if other:
        model.reverse = other.reverse = None  # they are in its weights
    with torch.no_grad():
        return peak_memory(lambda: way == "nothing" or sample(way, model, other, task), model.device)[1]
