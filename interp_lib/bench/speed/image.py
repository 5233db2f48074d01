"""What the parts of DreamMover cost beside what they cannot do without: flow, frames in chunks, the LoRA's steps."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.bench.speed.probe import finish, in_own_process, in_turns, peak_memory, ratio, unet_batches
from interp_lib.dreammover.ddim import run_inversion, timesteps
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.flow import match_features, pixel_grid
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import denoise_frames, interpolate
from interp_lib.dreammover.sampler import Network
from interp_lib.models import load_image_model
from interp_lib.models.image_model import ImageModel

SAMPLE = 64  # positions of the loop that are timed


def measure_flow(*, side: int = 64, channels: int = 1280, device: str = "cpu", repeats: int = 3) -> dict[str, Any]:
    """Eq. 5 by `match_features` beside a loop over positions, on random features [1,channels,side,side].

    faster: how many times, the loop timed on `SAMPLE` positions of side^2. agree: share of the sample on which both
    find the same position. memory_mib: of a process that matches in tiles of 4096 and of 256 positions, and of one that
    only holds the features.
    """
    first, second = _features(side, channels, device)
    sample = torch.linspace(0, side**2 - 1, SAMPLE).long().tolist()

    def loop() -> list[int]:
        return [_land(first, second, index) for index in sample]

    landed = pixel_grid(side, side, like=first) + match_features(first, second)[0]
    x, y = landed.long().flatten(1)[:, sample]
    seconds = in_turns({"all": lambda: match_features(first, second), "loop": loop}, repeats=repeats, device=device)
    memory = {str(tile): in_own_process(_flow_memory, side, channels, tile, device) for tile in (0, 256, 4096)}
    return {
        "seconds": seconds,
        "faster": ratio(seconds, "loop", "all") * side**2 / SAMPLE,
        "agree": sum(a == b for a, b in zip(loop(), (x + side * y).tolist(), strict=True)) / SAMPLE,
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
    source: str, *, size: int, frames: int, steps: int, batch_size: int, device: str = "auto"
) -> dict[str, Any]:
    """All middle frames in one U-Net call beside chunks of them: seconds, memory, largest difference in [0,1]."""
    model = load_image_model(source, device=device)
    ways = {"all": frames, "chunks": batch_size}
    works = {way: (lambda held=held: _frames(model, size, frames, steps, held)) for way, held in ways.items()}
    one, many = (work() for work in works.values())
    seconds = in_turns(works, repeats=2, device=model.device)
    given = {"size": size, "frames": frames, "steps": steps, "device": str(model.device)}
    memory = {way: in_own_process(memory_of_frames, source, batch_size=held, **given) for way, held in ways.items()}
    return {"seconds": seconds, "difference": float((one - many).abs().max()), "memory_mib": memory}


def measure_growth(
    source: str, *, sizes: tuple[int, ...], counts: tuple[int, ...], steps: int, batch_size: int, device: str = "auto"
) -> dict[str, Any]:
    """Peak memory and seconds by number of frames at the first size, and by size with as many frames as a chunk holds.

    memory_mib is without the returned frames themselves, 12 bytes a pixel each. growth: that of the most frames over
    that of the fewest.
    """
    found: dict[str, Any] = {"by_frames": [], "by_size": []}
    settings = [("by_frames", sizes[0], count) for count in counts] + [("by_size", size, batch_size) for size in sizes]
    for table, size, frames in settings:
        how = {"size": size, "frames": frames, "steps": steps, "batch_size": batch_size, "device": device}
        start = time.perf_counter()
        peak = in_own_process(memory_of_frames, source, **how)
        spent = time.perf_counter() - start
        own = 12 * size**2 * (frames + 2) / 2**20
        found[table].append({"size": size, "frames": frames, "memory_mib": peak - own, "seconds": spent})
    few, *_, many = sorted(found["by_frames"], key=lambda row: row["frames"])
    return found | {"growth": many["memory_mib"] / few["memory_mib"]}


def memory_of_frames(source: str, *, size: int, frames: int, steps: int, batch_size: int, device: str) -> float:
    """MiB at the highest while `interpolate` runs in this process, without LoRA."""
    model = load_image_model(source, device=device)
    return peak_memory(lambda: _frames(model, size, frames, steps, batch_size), model.device)[1]


def _frames(model: ImageModel, size: int, frames: int, steps: int, batch_size: int) -> Tensor:
    how = {
        "frames": frames,
        "steps": steps,
        "inversion_steps": half(steps),
        "batch_size": batch_size,
        "progress": False,
    }
    return interpolate(model, *_images(size).split(1), lora=False, flow="zero", **how).frames


def _images(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def half(steps: int) -> int:
    """The noise step at which a timed run fuses."""
    return max(1, steps // 2)


def measure_overhead(
    source: str,
    *,
    size: int,
    frames: int,
    steps: int,
    batch_size: int | None = None,
    device: str = "auto",
    repeats: int = 2,
) -> dict[str, Any]:
    """Inversion, flow and denoising beside the bare calls of the U-Net that they need, at the same batch sizes."""
    model = load_image_model(source, device=device)
    z, context = model.encode(_images(size)), model.embed_text("")
    schedule = timesteps(model, steps)[: half(steps)]
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)

    def method() -> None:
        inversion = run_inversion(model, z, context, schedule, steps=steps)
        flows = estimate_flow(model, inversion)
        list(denoise_frames(Network(model, context, batch_size or frames), inversion, *flows, deltas))

    with torch.no_grad():
        with unet_batches(model.unet) as needed:
            method()

        def bare() -> None:
            for batch in needed:
                model.run_unet(z[:1].expand(batch, -1, -1, -1).contiguous(), int(schedule[-1]), context)

        seconds = in_turns({"method": method, "bare": bare}, repeats=repeats, device=model.device)
    return {"seconds": seconds, "unet_batches": needed, "overhead": ratio(seconds, "method", "bare")}


def measure_lora(source: str, *, size: int, steps: int = 4, device: str = "auto", repeats: int = 2) -> dict[str, Any]:
    """A step of `fit_lora` (the time of `steps` further ones) beside a bare forward and backward pass of the U-Net on
    the same batch of two."""
    model = load_image_model(source, device=device)
    images = _images(size)
    z, context = model.encode(images), model.embed_text("")

    def fit(steps: int) -> None:
        fit_lora(model, images, steps=steps, progress=False).remove()

    def bare() -> None:
        for _ in range(steps):
            x = z.clone().requires_grad_(True)
            F.mse_loss(model.run_unet(x, 500, context).float(), torch.zeros_like(z)).backward()
        finish(model.device)

    works = {"some": lambda: fit(steps), "twice as many": lambda: fit(2 * steps), "bare": bare}
    seconds = in_turns(works, repeats=repeats, device=model.device)
    seconds["lora"] = [two - one for one, two in zip(seconds["some"], seconds["twice as many"], strict=True)]
    return {"seconds": seconds, "lora_over_bare": ratio(seconds, "lora", "bare")}
