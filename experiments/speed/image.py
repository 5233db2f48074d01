"""What the parts of DreamMover cost next to what they cannot do without: U-Net calls, the flow, memory, LoRA steps."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.speed.timing import in_own_process, peak_memory, ratio, time_interleaved, unet_batches
from interp_lib.dreammover.ddim import plan_levels, run_inversion
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.flow import match_features, pixel_grid
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.dreammover.sampler import Network, denoise_frames
from interp_lib.models import load_image_model

SAMPLE = 64  # positions of the loop that are timed


def random_images(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def measure_overhead(
    source: str, *, size: int, frames: int, steps: int, batch_size: int | None, device: str, repeats: int = 2
) -> dict[str, Any]:
    """Time inversion, flow and denoising, and the bare calls of the U-Net that they need, at the same batch sizes."""
    model = load_image_model(source, device=device)
    z, context = model.encode(random_images(size, size)), model.embed_text("")
    plan = plan_levels(model, steps, max(1, steps // 2))
    deltas = torch.arange(1, frames + 1, dtype=torch.float64) / (frames + 1)

    def method() -> None:
        inversion = run_inversion(model, z, context, plan)
        flows = estimate_flow(model, inversion)
        list(denoise_frames(Network(model, context, batch_size or frames), inversion, *flows, deltas))

    with torch.no_grad():
        with unet_batches(model.unet) as needed:
            method()

        def bare() -> None:
            for batch in needed:
                model.run_unet(z[:1].expand(batch, -1, -1, -1).contiguous(), int(plan.schedule[-1]), context)

        seconds = time_interleaved({"method": method, "bare": bare}, repeats=repeats)
    return {"seconds": seconds, "unet_batches": needed, "overhead": ratio(seconds, "method", "bare")}


def measure_flow(*, device: str, side: int = 64, channels: int = 1280, repeats: int = 3) -> dict[str, Any]:
    """Time Eq. 5 by `match_features` and by a loop over positions, on random features [1,channels,side,side].

    faster: how many times, the loop timed on `SAMPLE` positions of side^2. agree: share of the sample on which both
    find the same position.
    """
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, channels, side, side, generator=generator).to(device) for _ in range(2))
    sample = torch.linspace(0, side**2 - 1, SAMPLE).long().tolist()

    def loop() -> list[int]:
        """Return where each position of the sample lands, one cosine after the other, as the released code has it."""
        points = [first[:, :, index // side, index % side, None, None] for index in sample]
        return [int(F.cosine_similarity(point, second, dim=1).flatten().argmax()) for point in points]

    landed = pixel_grid(side, side, like=first) + match_features(first, second)[0]
    x, y = landed.long().flatten(1)[:, sample]
    seconds = time_interleaved({"all": lambda: match_features(first, second), "loop": loop}, repeats=repeats)
    return {
        "seconds": seconds,
        "faster": ratio(seconds, "loop", "all") * side**2 / SAMPLE,
        "agree": sum(a == b for a, b in zip(loop(), (x + side * y).tolist(), strict=True)) / SAMPLE,
    }


def measure_growth(source: str, *, size: int, batch_size: int, device: str) -> dict[str, Any]:
    """Measure peak memory of 32 and of 256 frames, and of as many as a batch holds at once and twice the size.

    memory_mib is without the returned frames themselves, 12 bytes a pixel each. growth: of 256 frames over 32.
    """
    rows = []
    for side, frames in ((size, 32), (size, 256), (size, batch_size), (2 * size, batch_size)):
        peak = in_own_process(memory_of_frames, source, side, frames, batch_size, device)
        rows.append({"size": side, "frames": frames, "memory_mib": peak - 12 * side**2 * (frames + 2) / 2**20})
    return {"rows": rows, "growth": rows[1]["memory_mib"] / rows[0]["memory_mib"]}


def memory_of_frames(source: str, size: int, frames: int, batch_size: int, device: str) -> float:
    """Return MiB at the highest while `interpolate` runs in this process, two steps without LoRA."""
    model, images = load_image_model(source, device=device), random_images(size, size)
    options = {"steps": 2, "inversion_steps": 1, "lora": False, "flow": "zero", "progress": False}
    work = lambda: interpolate(model, *images.split(1), frames=frames, batch_size=batch_size, **options)  # noqa: E731
    return peak_memory(work, model.device)[1]


def measure_lora(source: str, *, size: int, device: str, steps: int = 4, repeats: int = 2) -> dict[str, Any]:
    """Time a step of `fit_lora` (as the time of `steps` further ones) and a bare forward and backward pass."""
    model, images = load_image_model(source, device=device), random_images(size, size)
    z, context = model.encode(images), model.embed_text("")

    def fit(steps: int) -> None:
        fit_lora(model, images, steps=steps, progress=False).remove()

    def bare() -> None:
        for _ in range(steps):
            x = z.clone().requires_grad_(True)
            F.mse_loss(model.run_unet(x, 500, context).float(), torch.zeros_like(z)).backward()

    works = {"some": lambda: fit(steps), "twice as many": lambda: fit(2 * steps), "bare": bare}
    seconds = time_interleaved(works, repeats=repeats)
    seconds["lora"] = [two - one for one, two in zip(seconds["some"], seconds["twice as many"], strict=True)]
    return {"seconds": seconds, "lora_over_bare": ratio(seconds, "lora", "bare")}
