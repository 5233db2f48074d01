"""Where the time of `interpolate` goes, part by part."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp_lib.bench.speed.probe import finish, unet_batches
from interp_lib.dreammover.ddim import run_inversion, timesteps
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import denoise_frames
from interp_lib.dreammover.sampler import Network

if TYPE_CHECKING:
    from interp_lib.models.image_model import ImageModel


def measure_parts(
    model: ImageModel,
    images: Tensor,
    *,
    frames: int = 7,
    steps: int = 50,
    inversion_steps: int = 30,
    batch_size: int | None = None,
    lora_steps: int = 80,
) -> dict[str, Any]:
    """Run the parts of `interpolate` on images [2,3,H,W] in [0,1], one after the other, and time each.

    Returns seconds by part, and U-Net calls by batch size without those of the LoRA.
    """
    seconds: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:
        finish(model.device)
        start = time.perf_counter()
        result = work()
        finish(model.device)
        seconds[part] = time.perf_counter() - start
        return result

    context = model.embed_text("")
    schedule = timesteps(model, steps)[:inversion_steps]
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)
    lora = timed("lora", lambda: fit_lora(model, images, steps=lora_steps, progress=False))
    with lora, unet_batches(model.unet) as batches:
        clean = timed("encode", lambda: model.encode(images))
        inversion = timed("inversion", lambda: run_inversion(model, clean, context, schedule, steps=steps))
        flows = timed("flow", lambda: estimate_flow(model, inversion))
        states = denoise_frames(Network(model, context, batch_size or frames), inversion, *flows, deltas)
        latents = timed("denoise", lambda: list(states)[-1].latents)
        timed("decode", lambda: model.decode(latents[1:-1]))
    return {"seconds": seconds, "unet_calls": dict(sorted(Counter(batches).items()))}
