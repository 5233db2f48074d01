"""Both methods from images to frames: seconds, peak memory, the share of the device's own peak that is reached, and
what half precision does to the frames."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.metrics import psnr
from interp_lib.bench.speed.dual import load
from interp_lib.bench.speed.expect import TERA, cost
from interp_lib.bench.speed.probe import finish, in_turns, peak_memory, unet_batches
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.inbetweening.pipeline import inbetween
from interp_lib.models import load_image_model
from interp_lib.types import Interpolation


def measured_peak(device: Any, dtype: torch.dtype, *, side: int | None = None) -> float:
    """Operations a second of a product of two square matrices: what the device gives at best."""
    side = side or (8192 if torch.device(device).type == "cuda" else 1024)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(in_turns({"product": lambda: a @ b}, repeats=5, device=device)["product"])


def measure_image(
    source: str,
    images: Tensor,
    *,
    frames: int,
    steps: int,
    inversion_steps: int,
    lora_steps: int,
    dtype: torch.dtype,
    batch_size: int | None = None,
    device: str = "auto",
    offload: bool = False,
) -> dict[str, Any]:
    """`fit_lora` and `interpolate` on images [2,3,H,W] in [0,1]; as of `_measured`.

    lora_seconds: of the fit. psnr: of the frames between against those in float32, made with a LoRA of its own.
    """

    def run(dtype: torch.dtype) -> tuple[Interpolation, dict[str, Any]]:
        model = load_image_model(source, device=device, dtype=dtype, offload=offload)
        start = time.perf_counter()
        with fit_lora(model, images, steps=lora_steps, progress=False) as lora:
            finish(model.device)
            spent = time.perf_counter() - start
            how = {
                "frames": frames,
                "steps": steps,
                "inversion_steps": inversion_steps,
                "batch_size": batch_size,
                "lora": lora,
                "progress": False,
            }
            made, found = _measured(model, dtype, lambda: interpolate(model, *images.split(1), **how))
        return made, found | {"lora_seconds": spent}

    return _beside_float32(run, dtype)


def measure_video(
    source: str,
    images: Tensor,
    *,
    frames: int | None,
    steps: int,
    recurrence: int,
    dtype: torch.dtype,
    device: str = "auto",
    offload: bool = False,
) -> dict[str, Any]:
    """`inbetween` between images [2,3,H,W] in [0,1], which are taken as they are; as of `_measured`, and psnr."""

    def run(dtype: torch.dtype) -> tuple[Interpolation, dict[str, Any]]:
        model = load(source, device, dtype=dtype, offload=offload)
        how = {"frames": frames, "steps": steps, "recurrence": recurrence, "size": tuple(images.shape[2:])}
        return _measured(model, dtype, lambda: inbetween(model, *images.split(1), **how, progress=False))

    return _beside_float32(run, dtype)


def _beside_float32(run: Callable[[torch.dtype], tuple[Interpolation, dict[str, Any]]], dtype: torch.dtype) -> Any:
    made, found = run(dtype)
    if dtype != torch.float32:
        exact, _ = run(torch.float32)
        found["psnr"] = float(psnr(made.frames[1:-1], exact.frames[1:-1]).mean())
    return found


def _measured(model: Any, dtype: torch.dtype, work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What `work` returns; seconds, unet_calls, memory_mib at the highest, unet_operations and their share of the
    device's measured peak, were it busy with nothing else."""
    before, seen = model.unet_calls, {}

    def keep(unet: Any, args: Any, kwargs: Any) -> None:
        seen.setdefault(len(args[0]), (args, kwargs))

    hook = model.unet.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with unet_batches(model.unet) as batches:
            start = time.perf_counter()
            made, mib = peak_memory(work, model.device)
            finish(model.device)
            seconds = time.perf_counter() - start
    finally:
        hook.remove()
    one = {batch: cost(lambda g=given: model.unet(*g[0], **g[1])).operations for batch, given in seen.items()}
    operations = sum(one[batch] * count for batch, count in Counter(batches).items())
    peak = measured_peak(model.device, dtype)
    found = {"seconds": seconds, "unet_calls": model.unet_calls - before, "memory_mib": mib}
    found |= {"unet_operations": operations, "peak": peak / TERA, "share": operations / seconds / peak}
    return made, found
