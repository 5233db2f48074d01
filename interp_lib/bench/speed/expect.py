"""What the papers' own settings cost on a card, computed: no weights, no GPU, the true networks on fake tensors.

`python -m interp_lib.bench.speed.expect` prints weights, activations, operations and the time they take at a given
share of a card's peak. Memory is what tensors hold at their highest; allocators and libraries come on top.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from interp_lib.bench.speed.shapes import networks
from interp_lib.inbetweening.sampling import unet_calls
from interp_lib.inbetweening.temporal import two_directions
from interp_lib.models import image_model, video_model

# Dense bfloat16 operations a second with float32 sums, 1e12, and GiB, from the makers' data sheets
CARDS = {"RTX 3090": (71, 24), "RTX 4090": (165, 24), "A100": (312, 80), "H100 SXM": (989, 80)}
GIB, TERA = 2**30, 1e12


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors made while it lasts: `.now`, and `.peak` at the highest."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._meet((args, kwargs), new=False)  # what was there before, weights and inputs, whose views are not new
        made = func(*args, **(kwargs or {}))
        self._meet(made, new=True)
        self.peak = max(self.peak, self.now)
        return made

    def _meet(self, tensors: Any, *, new: bool) -> None:
        for storage in (x.untyped_storage() for x in tree_leaves(tensors) if isinstance(x, torch.Tensor)):
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                size = storage.nbytes() if new else 0
                self.now += size
                weakref.finalize(storage, self._freed, storage._cdata, size)

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@dataclass
class Cost:
    """Of one call: operations (a multiplication and an addition are two), and bytes beyond weights at the highest."""

    operations: float
    bytes: int


def cost(work: Callable[[], Any]) -> Cost:
    """Of what `work` does, on fake tensors or on real ones."""
    with torch.no_grad(), Held() as held, FlopCounterMode(display=False) as counter:
        work()
    return Cost(counter.get_total_flops(), held.peak)


def image_run(kind: str = "sd15", *, size: int = 512, frames: int = 32, chunk: int = 8) -> dict[str, Any]:
    """DreamMover at the paper's settings: 50 steps, T = 30, a LoRA of 80 steps, `chunk` middle frames a call.

    Returns U-Net calls, operations, weights and the largest activations, as of `_table`.
    """
    steps, until, lora = 50, 30, 80
    side, vae = size // 8, image_model.VAE_CHUNK
    with FakeTensorMode():
        network = built(kind)
        words = torch.zeros(1, 77, network["unet"].config.cross_attention_dim, dtype=torch.bfloat16)

        def unet(batch: int) -> Cost:
            z = torch.zeros(batch, 4, side, side, dtype=torch.bfloat16)
            return cost(lambda: network["unet"](z, torch.tensor(1), encoder_hidden_states=words.expand(batch, -1, -1)))

        two, some = unet(2), unet(chunk)
        decode = cost(lambda: network["vae"].decode(torch.zeros(vae, 4, side, side, dtype=torch.bfloat16)))
    chunks = -(-frames // chunk)
    operations = (2 * until + 1 + 3 * lora) * two.operations + until * chunks * some.operations  # backward is twice
    operations += frames / vae * decode.operations
    calls = until + 1 + until * (1 + chunks)
    held = {"U-Net call": some.bytes, "VAE call": decode.bytes}
    return {"unet_calls": calls, "lora_steps": lora, "steps": steps, "operations": operations} | _weights(network, held)


def video_run(
    kind: str = "svd-xt",
    *,
    size: tuple[int, int] = (576, 1024),
    frames: int = 25,
    steps: int = 50,
    recurrence: int = 5,
    chunking: bool = False,
) -> dict[str, Any]:
    """Generative Inbetweening at the paper's settings, both directions and both guidance branches in a call.

    chunking: diffusers' `unet.enable_forward_chunking(1)`, feed-forward layers one frame at a time.
    """
    sides, vae, half = [n // 8 for n in size], video_model.VAE_CHUNK, torch.bfloat16
    with FakeTensorMode():
        network = built(kind)
        if chunking:
            network["unet"].enable_forward_chunking(1)
        unet, z = network["unet"], torch.zeros(4, frames, 8, *sides, dtype=half)
        image = torch.zeros(4, 1, unet.config.cross_attention_dim, dtype=half)
        told = torch.zeros(4, 3, dtype=half)
        with two_directions(unet):
            one = cost(lambda: unet(z, torch.tensor(1.0), encoder_hidden_states=image, added_time_ids=told))
        latents = torch.zeros(vae, 4, *sides, dtype=half)
        decode = cost(lambda: network["vae"].decode(latents, num_frames=vae))
    calls = unet_calls("dual", steps, recurrence)
    operations = calls * one.operations + frames / vae * decode.operations
    held = {"U-Net call": one.bytes, "VAE call": decode.bytes}
    return {"unet_calls": calls, "steps": steps, "operations": operations} | _weights(network, held)


def built(kind: str) -> dict[str, torch.nn.Module]:
    """The networks of a kind in bfloat16, in eval mode; without memory in a FakeTensorMode."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)  # fake weights cannot be converted
        made = networks(kind)
    finally:
        torch.set_default_dtype(before)
    return {name: network.eval().requires_grad_(False) for name, network in made.items()}


def _weights(made: dict[str, torch.nn.Module], held: dict[str, int]) -> dict[str, Any]:
    weights = {name: sum(p.numel() * p.element_size() for p in net.parameters()) for name, net in made.items()}
    return {"weights": weights, "held": held}


def _table(name: str, run: dict[str, Any], share: float) -> str:
    weights, held = run["weights"], run["held"]
    most = sum(weights.values()) + max(held.values())
    offloaded = max(weights["unet"] + held["U-Net call"], weights["vae"] + held["VAE call"])
    lines = [
        f"{name}: {run['unet_calls']} U-Net calls, {run['operations'] / TERA:.0f} x 1e12 operations",
        "  weights, GiB in bfloat16: " + ", ".join(f"{part} {n / GIB:.2f}" for part, n in weights.items()),
        "  activations, GiB: " + ", ".join(f"{part} {n / GIB:.2f}" for part, n in held.items()),
        f"  together at the highest {most / GIB:.1f} GiB, with offload=True {offloaded / GIB:.1f} GiB",
    ]
    for card, (peak, memory) in CARDS.items():
        seconds = run["operations"] / (share * peak * TERA)
        room = 0.85 * memory * GIB
        fits = "fits" if most < room else "fits with offload" if offloaded < room else "too small"
        lines.append(f"  {card:9} ({memory} GiB: {fits}): {seconds:5.0f} s at {share:.0%} of its peak")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m interp_lib.bench.speed.expect", description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=0.4, help="of the card's peak that is reached (default 0.4)")
    asked = parser.parse_args(arguments)
    if not 0 < asked.share <= 1:
        parser.error(f"--share {asked.share} is no share: give a number above 0, up to 1")
    print(_table("DreamMover, SD 1.5, 512x512, 32 frames, LoRA of 80 steps", image_run(), asked.share))
    print(_table("Generative Inbetweening, SVD-XT, 1024x576, 25 frames, recurrence 5", video_run(), asked.share))
    print(_table("The same with unet.enable_forward_chunking(1)", video_run(chunking=True), asked.share))
    return 0


if __name__ == "__main__":
    sys.exit(main())
