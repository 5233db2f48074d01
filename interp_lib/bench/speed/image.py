"""What the parts of DreamMover cost beside what they cannot do without: flow, frames in chunks, the LoRA's steps."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.bench.speed.probe import finish, in_own_process, in_turns, peak_memory, ratio
from interp_lib.dreammover.ddim import run_inversion, timesteps
from interp_lib.dreammover.flow import match_features
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.dreammover.sampler import denoise_frames
from interp_lib.models import load_image_model
from interp_lib.models.image_model import ImageModel

SAMPLE = 64  # positions of the loop that are timed


def measure_flow(*, side: int = 64, channels: int = 1280, device: str = "cpu", repeats: int = 3) -> dict[str, Any]:
    """Eq. 5 by `match_features` beside a loop over positions, on random features [1,channels,side,side].

    faster: how many times, the loop timed on `SAMPLE` positions of side^2. memory_mib: of a process that matches in
    tiles of 4096 and of 256 positions, and of one that only holds the features.
    """
    first, second = _features(side, channels, device)
    sample = torch.linspace(0, side**2 - 1, SAMPLE).long().tolist()
    found = match_features(first, second)
    landed = [_land(first, second, index) for index in sample]
    expected = [
        int(found[0, 0].flatten()[k]) + k % side + side * int(found[0, 1].flatten()[k] + k // side) for k in sample
    ]
    works = {
        "all": lambda: match_features(first, second),
        "loop": lambda: [_land(first, second, index) for index in sample],
    }
    seconds = in_turns(works, repeats=repeats, device=device)
    memory = {str(tile): in_own_process(_flow_memory, side, channels, tile, device) for tile in (0, 256, 4096)}
    return {
        "seconds": seconds,
        "faster": ratio(seconds, "loop", "all") * side**2 / SAMPLE,
        "agree": sum(a == b for a, b in zip(landed, expected, strict=True)) / SAMPLE,
        "memory_mib": memory,
    }


def _features(side: int, channels: int, device: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, channels, side, side, generator=generator).to(device) for _ in range(2)]


def _land(first: Tensor, second: Tensor, index: int) -> int:
    """Where one position lands: its cosine with every other, as the released code has it."""
    y, x = divmod(index, first.shape[3])
    return int(F.cosine_similarity(first[:, :, y, x, None, None], second, dim=1).flatten().argmax())


def _flow_memory(side: int, channels: int, tile: int, device: str) -> float:
    first, second = _features(side, channels, device)
    return peak_memory(lambda: match_features(first, second, tile=tile) if tile else None, device)[1]


def measure_chunks(
    source: str, *, size: int, frames: int, steps: int, chunk: int, device: str = "auto"
) -> dict[str, Any]:
    """All middle frames in one U-Net call beside chunks of them: seconds, memory, largest difference in [0,1]."""
    model = load_image_model(source, device=device)
    how = {"frames": frames, "steps": steps, "until": max(1, steps // 2)}
    with torch.no_grad():
        one, many = (_frames(model, size, chunk=c, **how) for c in (frames, chunk))
    works = {str(c): (lambda c=c: _frames(model, size, chunk=c, **how)) for c in (frames, chunk)}
    seconds = in_turns(works, repeats=2, device=model.device)
    memory = {
        name: in_own_process(memory_of_frames, source, size, chunk=c, device=str(model.device), **how)
        for name, c in ((str(frames), frames), (str(chunk), chunk))
    }
    return {"seconds": seconds, "difference": float((one - many).abs().max()), "memory_mib": memory}


def measure_growth(
    source: str, *, sizes: tuple[int, ...], counts: tuple[int, ...], steps: int, chunk: int, device: str = "auto"
) -> dict[str, Any]:
    """Peak memory and seconds by number of frames at the first size, and by size with as many frames as a chunk holds.

    memory_mib is without the returned frames themselves, 12 bytes a pixel each.
    """
    found: dict[str, Any] = {"by_frames": [], "by_size": []}
    settings = [("by_frames", sizes[0], count) for count in counts] + [("by_size", size, chunk) for size in sizes]
    for table, size, frames in settings:
        how = {"frames": frames, "steps": steps, "until": max(1, steps // 2), "chunk": chunk, "device": device}
        start = time.perf_counter()
        peak = in_own_process(memory_of_frames, source, size, **how)
        spent = time.perf_counter() - start
        own = 12 * size**2 * (frames + 2) / 2**20
        found[table].append({"size": size, "frames": frames, "memory_mib": peak - own, "seconds": spent})
    return found


def memory_of_frames(source: str, size: int, *, device: str, **how: int) -> float:
    """MiB at the highest while `interpolate` runs in this process, without LoRA."""
    model = load_image_model(source, device=device)
    return peak_memory(lambda: _frames(model, size, **how), model.device)[1]


def _frames(model: ImageModel, size: int, **how: int) -> Tensor:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return interpolate(model, images[:1], images[1:], lora=False, flow="zero", progress=False, **how).frames


def measure_overhead(
    source: str, *, size: int, frames: int, steps: int, chunk: int | None = None, device: str = "auto", repeats: int = 2
) -> dict[str, Any]:
    """Inversion, flow and denoising beside the bare calls of the U-Net that they need, at the same batch sizes."""
    model = load_image_model(source, device=device)
    z = model.encode(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
    context, until = model.embed_text(""), max(1, steps // 2)
    schedule = timesteps(model, steps)[:until]
    deltas, chunk = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1), chunk or frames
    flow = z.new_zeros(1, 2, *z.shape[2:])
    batches: list[int] = []
    hook = model.unet.register_forward_pre_hook(lambda unet, given: batches.append(len(given[0])))

    def method() -> None:
        inversion = run_inversion(model, z, context, schedule, steps=steps)
        list(denoise_frames(model, inversion, flow, flow, deltas, context, chunk=chunk))

    with torch.no_grad():
        method()
        hook.remove()
        needed = list(batches)

        def bare() -> None:
            for batch in needed:
                model.run_unet(z[:1].expand(batch, -1, -1, -1).contiguous(), int(schedule[-1]), context)

        seconds = in_turns({"method": method, "bare": bare}, repeats=repeats, device=model.device)
    return {"seconds": seconds, "unet_batches": needed, "overhead": ratio(seconds, "method", "bare")}


def measure_lora(source: str, *, size: int, steps: int = 4, device: str = "auto", repeats: int = 2) -> dict[str, Any]:
    """A step of `fit_lora` beside a bare forward and backward pass of the U-Net on the same batch of two."""
    model = load_image_model(source, device=device)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    z, context = model.encode(images), model.embed_text("")

    def fit() -> None:
        fit_lora(model, images, steps=steps, progress=False).remove()

    def bare() -> None:
        for _ in range(steps):
            x = z.clone().requires_grad_(True)
            F.mse_loss(model.run_unet(x, 500, context).float(), torch.zeros_like(z)).backward()
        finish(model.device)

    seconds = in_turns({"lora": fit, "bare": bare}, repeats=repeats, device=model.device)
    return {"seconds": seconds, "lora_over_bare": ratio(seconds, "lora", "bare")}
