"""What the parts of DreamMover cost next to what they cannot do without: U-Net calls, the flow, LoRA steps."""

from argparse import Namespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.speed.timing import ratio, time_interleaved, unet_batches
from interp_lib.dreammover.ddim import plan_levels, run_inversion
from interp_lib.dreammover.features import estimate_flow
from interp_lib.dreammover.flow import match_features, pixel_grid
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.sampler import Network, denoise_frames
from interp_lib.models import load_image_model

SAMPLE = 64  # positions of the loop that are timed
LORA_STEPS = 4


def random_images(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def overhead(args: Namespace) -> dict[str, Any]:
    """Time inversion, flow and denoising, and the bare calls of the U-Net that they need, at the same batch sizes."""
    model = load_image_model(args.model, device=args.device)
    z, context = model.encode(random_images(args.size, args.size)), model.embed_text("")
    plan = plan_levels(model, args.steps, max(1, args.steps // 2))
    deltas = torch.arange(1, args.frames + 1, dtype=torch.float64) / (args.frames + 1)

    def method() -> None:
        inversion = run_inversion(model, z, context, plan)
        network = Network(model, context, args.batch_size or args.frames)
        list(denoise_frames(network, inversion, *estimate_flow(model, inversion), deltas))

    def bare() -> None:
        for batch in needed:
            model.run_unet(z[:1].expand(batch, -1, -1, -1).contiguous(), int(plan.schedule[-1]), context)

    with torch.no_grad():
        with unet_batches(model.unet) as needed:
            method()
        seconds = time_interleaved({"method": method, "bare": bare}, repeats=2)
    return {"seconds": seconds, "unet_batches": needed, "overhead": ratio(seconds, "method", "bare")}


def flow(args: Namespace, *, side: int = 64, channels: int = 1280) -> dict[str, Any]:
    """Time Eq. 5 by `match_features` and by a loop over positions, on random features [1,channels,side,side].

    faster: how many times, the loop timed on `SAMPLE` positions of side^2. agree: share of the sample on which both
    find the same position.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, channels, side, side)
    first, second = torch.randn(shape, generator=generator).to(args.device)
    sample = torch.linspace(0, side**2 - 1, SAMPLE).long().tolist()

    def loop() -> list[int]:
        """Return where each position of the sample lands, one cosine after the other, as the released code has it."""
        points = [first[:, :, index // side, index % side, None, None] for index in sample]
        return [int(F.cosine_similarity(point, second, dim=1).flatten().argmax()) for point in points]

    landed = pixel_grid(side, side, like=first) + match_features(first, second)[0]
    x, y = landed.long().flatten(1)[:, sample]
    seconds = time_interleaved({"all": lambda: match_features(first, second), "loop": loop})
    agree = sum(a == b for a, b in zip(loop(), (x + side * y).tolist(), strict=True)) / SAMPLE
    return {"seconds": seconds, "faster": ratio(seconds, "loop", "all") * side**2 / SAMPLE, "agree": agree}


def lora(args: Namespace) -> dict[str, Any]:
    """Time a step of `fit_lora` (as the time of `LORA_STEPS` further ones) and a bare forward and backward pass."""
    model, images = load_image_model(args.model, device=args.device), random_images(args.size, args.size)
    z, context = model.encode(images), model.embed_text("")

    def fit(steps: int) -> None:
        fit_lora(model, images, steps=steps, progress=False).remove()

    def bare() -> None:
        for _ in range(LORA_STEPS):
            x = z.clone().requires_grad_(True)
            F.mse_loss(model.run_unet(x, 500, context).float(), torch.zeros_like(z)).backward()

    works = {"some": lambda: fit(LORA_STEPS), "twice as many": lambda: fit(2 * LORA_STEPS), "bare": bare}
    seconds = time_interleaved(works, repeats=2)
    seconds["lora"] = [two - one for one, two in zip(seconds["some"], seconds["twice as many"], strict=True)]
    return {"seconds": seconds, "lora_over_bare": ratio(seconds, "lora", "bare")}
