"""Where the time of `interpolate` goes, part by part, and how much of it is more than the U-Net itself."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp_lib.dreammover.ddim import run_inversion, timesteps
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.sampler import denoise_frames

if TYPE_CHECKING:
    from interp_lib.models.image_model import ImageModel


def measure_cost(
    model: ImageModel,
    images: Tensor,
    *,
    frames: int = 7,
    steps: int = 50,
    until: int = 30,
    chunk: int | None = None,
    lora_steps: int = 80,
) -> dict[str, Any]:
    """Run the parts of `interpolate` on images [2,3,H,W] in [0,1], one after the other, and time each.

    Returns seconds by part, U-Net calls by batch size, seconds of one bare call (no LoRA, no attention replacement) at
    each of these sizes, `overhead` = (inversion + flow + denoising) / sum of the bare calls, and peak memory in MiB: of
    the device during this run on CUDA, else the largest the process has ever been.
    """
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    seconds: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:
        _finish(model)
        start = time.perf_counter()
        result = work()
        _finish(model)
        seconds[part] = time.perf_counter() - start
        return result

    context = model.embed_text("")
    schedule = timesteps(model, steps)[:until]
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)
    lora = timed("lora", lambda: fit_lora(model, images, steps=lora_steps, progress=False))
    with lora:
        clean = timed("encode", lambda: model.encode(images))
        with _batch_sizes(model) as calls:
            inversion = timed("inversion", lambda: run_inversion(model, clean, context, schedule, steps=steps))
            flows = timed("flow", lambda: estimate_flow(model, inversion))
            states = denoise_frames(model, inversion, *flows, deltas, context, chunk=chunk)
            latents = timed("denoise", lambda: list(states)[-1].latents)
        timed("decode", lambda: model.decode(latents[1:-1]))
    bare = {size: _bare_call(model, size, clean, int(schedule[-1]), context) for size in sorted(calls)}
    needed = sum(bare[size] * count for size, count in calls.items())
    return {
        "seconds": seconds,
        "unet_calls": dict(sorted(calls.items())),
        "bare_call_seconds": bare,
        "overhead": (seconds["inversion"] + seconds["flow"] + seconds["denoise"]) / needed,
        "peak_memory_mib": _peak_memory(model),
    }


@contextmanager
def _batch_sizes(model: ImageModel) -> Iterator[Counter[int]]:
    """Counts calls of the U-Net by batch size."""
    counts: Counter[int] = Counter()
    hook = model.unet.register_forward_pre_hook(lambda unet, inputs: counts.update([len(inputs[0])]))
    try:
        yield counts
    finally:
        hook.remove()


@torch.no_grad()
def _bare_call(model: ImageModel, size: int, clean: Tensor, timestep: int, context: Tensor, repeats: int = 5) -> float:
    latents = clean[:1].expand(size, -1, -1, -1).contiguous()
    spent = []
    for _ in range(repeats + 1):  # the first one warms up
        _finish(model)
        start = time.perf_counter()
        model.run_unet(latents, timestep, context)
        _finish(model)
        spent.append(time.perf_counter() - start)
    return median(spent[1:])


def _finish(model: ImageModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _peak_memory(model: ImageModel) -> float:
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
