"""What the papers' own settings cost on a card, computed: no weights, no GPU, the true networks on fake tensors.

Memory is what tensors hold at their highest; allocators and libraries come on top.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from interp_lib.bench import page
from interp_lib.bench.page import table
from interp_lib.bench.speed.shapes import WIDTHS, networks
from interp_lib.cli_help import Parser
from interp_lib.inbetweening.sampling import unet_calls
from interp_lib.inbetweening.temporal import (
    record_temporal_attention,
    rotate_temporal_attention,
    temporal_attentions,
    two_directions,
)
from interp_lib.models import image_model, video_model
from interp_lib.models.chunks import sliced_feed_forward

# Dense bfloat16 operations a second with float32 sums, 1e12, and GiB, from the makers' data sheets
CARDS = {"RTX 3090": (71, 24), "RTX 4090": (165, 24), "A100": (312, 80), "H100 SXM": (989, 80)}
GIB, TERA = 2**30, 1e12
COMMAND = "interp_lib.bench.speed.expect"
SHORT = f"{COMMAND} --short"


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


def image_run(kind: str = "sd15", *, size: int = 512, frames: int = 32, batch_size: int = 8) -> dict[str, Any]:
    """DreamMover at the paper's settings: 50 steps, T = 30, a LoRA of 80 steps, `batch_size` middle frames a call.

    Returns unet_calls, operations, bytes of weights by network and held by a call of the U-Net and of the VAE.
    """
    steps, inversion_steps, lora = 50, 30, 80
    side, vae = size // 8, image_model.VAE_CHUNK
    with FakeTensorMode():
        network = built(kind)
        words = torch.zeros(1, 77, network["unet"].config.cross_attention_dim, dtype=torch.bfloat16)

        def unet(batch: int) -> Cost:
            z = torch.zeros(batch, 4, side, side, dtype=torch.bfloat16)
            return cost(lambda: network["unet"](z, torch.tensor(1), encoder_hidden_states=words.expand(batch, -1, -1)))

        two, some = unet(2), unet(batch_size)
        decode = cost(lambda: network["vae"].decode(torch.zeros(vae, 4, side, side, dtype=torch.bfloat16)))
    chunks = -(-frames // batch_size)
    operations = (
        2 * inversion_steps + 1 + 3 * lora
    ) * two.operations + inversion_steps * chunks * some.operations  # backward is twice
    operations += frames / vae * decode.operations
    calls = inversion_steps + 1 + inversion_steps * (1 + chunks)
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
    low_memory: bool | None = None,
    networks: int = 1,
) -> dict[str, Any]:
    """Generative Inbetweening at the paper's settings, both directions in a call.

    chunking: diffusers' `unet.enable_forward_chunking(1)`, all feed-forward layers one frame at a time. lean: the
    model's. networks: 2 for one of each direction, whose calls hold both branches of guidance, and every map stored
    between them, as the released code has it; 1 holds what the tuned one has more.
    """
    sides, vae, half = [n // 8 for n in size], video_model.VAE_CHUNK, torch.bfloat16
    if low_memory is None:
        low_memory = 4 * frames * sides[0] * sides[1] * WIDTHS[0] ** 2 > video_model.LARGE
    low_memory = low_memory and networks == 1
    with FakeTensorMode():
        network = built(kind)
        if chunking:
            network["unet"].enable_forward_chunking(1)
        batch = 2 if low_memory or networks == 2 else 4
        unet, z = network["unet"], torch.zeros(batch, frames, 8, *sides, dtype=half)
        image = torch.zeros(batch, 1, unet.config.cross_attention_dim, dtype=half)
        told = torch.zeros(batch, 3, dtype=half)
        deltas = {
            f"{name}.{part}.weight": torch.zeros_like(attn.get_submodule(part).weight)
            for name, attn in temporal_attentions(unet).items()
            for part in ("to_v", "to_out.0")
        }

        def call() -> Any:
            return unet(z, torch.tensor(1.0), encoder_hidden_states=image, added_time_ids=told)

        if networks == 1:
            with (
                two_directions(unet, deltas=deltas),
                sliced_feed_forward(*([unet.down_blocks[0], unet.up_blocks[-1]] * low_memory)),
            ):
                one = cost(call)
        else:
            one = cost(lambda: _one_after_the_other(unet, call))
        latents = torch.zeros(vae, 4, *sides, dtype=half)
        decode = cost(lambda: network["vae"].decode(latents, num_frames=vae))
    calls = unet_calls("dual", steps, recurrence)
    operations = calls * (2 if low_memory else 1) * one.operations + frames / vae * decode.operations
    made = {"unet_calls": calls * networks, "steps": steps, "operations": operations}
    made |= _weights(network, {"U-Net call": one.bytes, "VAE call": decode.bytes})
    if networks == 1:
        made["weights"]["deltas"] = sum(delta.numel() * delta.element_size() for delta in deltas.values())
    else:
        made["weights"]["second U-Net"] = made["weights"]["unet"]
    return made


def _one_after_the_other(unet: torch.nn.Module, call: Callable[[], Any]) -> None:
    with record_temporal_attention(unet) as maps:
        first = call()
    with rotate_temporal_attention(unet, maps):
        call()
    del first


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


def report(share: float) -> str:
    """The tables of docs/gpu.md: what each run holds, and the seconds its operations take."""
    runs = {
        "`interpolate`, SD 1.5, 512x512, 32 frames, `batch_size=8`": image_run(),
        "`inbetween`, SVD-XT, 1024x576, 25 frames": video_run(),
        "the same, `model.unet.enable_forward_chunking(1)`": video_run(chunking=True),
        "the same, `model.low_memory = False`": video_run(low_memory=False),
        "a network a direction, maps stored between them": video_run(networks=2),
    }
    lines = ["Memory in GiB, bfloat16 (computed).", ""]
    head = ["", "weights", "a U-Net call", "a VAE call", "in all", "in all, `offload=True`"]
    lines += table(head, [[name, *_memory(run)] for name, run in runs.items()])
    lines += ["", f"Seconds where a card reaches {share:.0%} of its peak (computed).", ""]
    head = ["", "U-Net calls", "operations, 1e12", *(f"{card}, {gib} GiB" for card, (_, gib) in CARDS.items())]
    return "\n".join(lines + table(head, [[name, *_time(run, share)] for name, run in runs.items()])) + "\n"


def short(share: float) -> str:
    """The table of the README: both methods as they come, memory in GiB and seconds."""
    runs = {
        "`interpolate`, Stable Diffusion 1.5, 512x512, 32 frames, `batch_size=8`": image_run(),
        "`inbetween`, Stable Video Diffusion XT, 1024x576, 25 frames": video_run(),
    }
    head = ["", "memory, GiB", "with `offload=True`", *(f"seconds, {card}" for card in CARDS)]
    return (
        "\n".join(table(head, [[name, *_memory(run)[-2:], *_time(run, share)[2:]] for name, run in runs.items()]))
        + "\n"
    )


def _memory(run: dict[str, Any]) -> list[str]:
    weights, (unet, vae) = run["weights"], run["held"].values()
    second = weights.get("second U-Net", 0) + weights.get("deltas", 0)
    offloaded = max(weights["unet"] + second + unet, weights["vae"] + vae)
    total = sum(weights.values())
    return [f"{n / GIB:.1f}" for n in (total, unet, vae, total + max(unet, vae), offloaded)]


def _time(run: dict[str, Any], share: float) -> list[str]:
    seconds = [run["operations"] / (share * peak * TERA) for peak, _ in CARDS.values()]
    return [str(run["unet_calls"]), f"{run['operations'] / TERA:.0f}", *(f"{n:.0f}" for n in seconds)]


def main(arguments: list[str] | None = None) -> int:
    asked = make_parser().parse_args(arguments)
    make, command = (short, SHORT) if asked.short else (report, COMMAND)

    def tables() -> str:
        if not 0 < asked.share <= 1:
            raise ValueError(f"--share {asked.share} is no share: give a number above 0, up to 1.")
        return make(asked.share)

    return page.run(tables, asked.write, command)


def make_parser() -> Parser:
    examples = {"": "print the tables", "--write docs/gpu.md": "and put them there"}
    examples["--short --write README.md"] = "the README's"
    parser = Parser(prog=f"python -m {COMMAND}", description=__doc__, examples=examples)
    parser.add_argument("--share", type=float, default=0.4, help="of the card's peak that is reached")
    parser.add_argument("--short", action="store_true", help="one table, both methods as they come")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose marked part is replaced")
    return parser


if __name__ == "__main__":
    sys.exit(main())
