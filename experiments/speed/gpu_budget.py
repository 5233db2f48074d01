"""Compute what the papers' own settings cost on a GPU, with the true networks on fake tensors: no weights, no GPU.

`python -m experiments.speed.gpu_budget` prints the tables of docs/gpu.md. Memory is what tensors hold at their highest;
allocators and libraries come on top.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from experiments.speed.random_models import networks, tuned_weights
from interp_lib.inbetweening.sampling import unet_calls
from interp_lib.inbetweening.temporal import record_temporal_attention, rotate_temporal_attention, two_directions
from interp_lib.models import image_model, video_model
from interp_lib.models.processors import sliced_feed_forward

# Dense bfloat16 operations per second with float32 sums, in 1e12, from the makers' data sheets
CARDS = {"RTX 3090": 71, "RTX 4090": 165, "A100": 312, "H100 SXM": 989}
SHARE = 0.4  # of a card's peak that is reached
GIB, TERA, HALF = 2**30, 1e12, torch.bfloat16


class HeldBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside it: `.now`, and `.peak` at the highest."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._count((args, kwargs), new=False)  # weights and inputs were there before, and their views are not new
        result = func(*args, **(kwargs or {}))
        self._count(result, new=True)
        self.peak = max(self.peak, self.now)
        return result

    def _count(self, tensors: Any, *, new: bool) -> None:
        for storage in (x.untyped_storage() for x in tree_leaves(tensors) if isinstance(x, torch.Tensor)):
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                size = storage.nbytes() if new else 0
                self.now += size
                weakref.finalize(storage, self._free, storage._cdata, size)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def cost(work: Callable[[], Any]) -> tuple[int, int]:
    """Return the operations of `work` (multiplication and addition are two) and the bytes it holds at the highest."""
    with torch.no_grad(), HeldBytes() as held, FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops(), held.peak


def image_run(kind: str = "sd15", *, size: int = 512, batch_size: int = 8) -> dict[str, Any]:
    """Compute DreamMover with "sd15" or "sdxl" at the paper's settings: T = 30 of 50, 32 frames, a LoRA of 80 steps."""
    frames, inversion_steps, lora_steps, vae = 32, 30, 80, image_model.vae_chunk(size, size)
    with FakeTensorMode():
        network = build(kind)
        latents = torch.zeros(max(batch_size, vae), 4, size // 8, size // 8, dtype=HALF)
        words = torch.zeros(batch_size, 77, network["unet"].config.cross_attention_dim, dtype=HALF)

        def unet(n: int) -> tuple[int, int]:
            added = {"text_embeds": words[:n, 0, :1280], "time_ids": words[:n, 0, :6]} if kind == "sdxl" else None
            return cost(lambda: network["unet"](latents[:n], torch.tensor(1), words[:n], added_cond_kwargs=added))

        (two, _), (batch, held) = unet(2), unet(batch_size)
        decode, vae_held = cost(lambda: network["vae"].decode(latents[:vae]))
    batches = -(-frames // batch_size)
    operations = (2 * inversion_steps + 1 + 3 * lora_steps) * two  # a backward pass costs two forward ones
    operations += inversion_steps * batches * batch + frames / vae * decode
    calls = inversion_steps + 1 + inversion_steps * (1 + batches)
    return {"calls": calls, "operations": operations, "weights": _bytes(network), "unet": held, "vae": vae_held}


def video_run(*, low_memory: bool = True, two_networks: bool = False) -> dict[str, Any]:
    """Compute Generative Inbetweening with SVD-XT at the paper's settings, both directions in a call.

    1024x576 pixels, 25 frames, 50 steps, recurrence 5. low_memory: as the model has it at this size, or not.
    two_networks: one per direction, whose calls hold both branches of guidance, and every map stored between them, as
    the released code has it; one network holds the deltas instead.
    """
    frames, sides, vae = 25, (72, 128), video_model.VAE_CHUNK
    low_memory = low_memory and not two_networks
    with FakeTensorMode():
        network = build("svd-xt")
        unet, batch = network["unet"], 2 if low_memory or two_networks else 4
        z, micro = torch.zeros(batch, frames, 8, *sides, dtype=HALF), torch.zeros(batch, 3, dtype=HALF)
        image = torch.zeros(batch, 1, unet.config.cross_attention_dim, dtype=HALF)
        deltas = {name: torch.zeros_like(w) for name, w in tuned_weights(unet).items()}

        def call() -> Any:
            return unet(z, torch.tensor(1.0), encoder_hidden_states=image, added_time_ids=micro)

        def one_after_the_other() -> None:
            with record_temporal_attention(unet) as maps:
                first = call()
            with rotate_temporal_attention(unet, maps):
                call()
            del first  # held to the end of the other call

        if two_networks:
            one, held = cost(one_after_the_other)
        else:
            sliced = [unet.down_blocks[0], unet.up_blocks[-1]] if low_memory else []
            with two_directions(unet, deltas=deltas), sliced_feed_forward(*sliced):
                one, held = cost(call)
        latents = torch.zeros(vae, 4, *sides, dtype=HALF)
        decode, vae_held = cost(lambda: network["vae"].decode(latents, num_frames=vae))
    calls, weights = unet_calls("dual", 50, 5), _bytes(network)
    weights["second"] = weights["unet"] if two_networks else sum(x.numel() * x.element_size() for x in deltas.values())
    operations = calls * (2 if low_memory else 1) * one + frames / vae * decode
    calls *= 2 if two_networks else 1
    return {"calls": calls, "operations": operations, "weights": weights, "unet": held, "vae": vae_held}


def build(kind: str) -> dict[str, torch.nn.Module]:
    """Return the networks of a kind in bfloat16, in eval mode; without memory in a FakeTensorMode."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(HALF)  # fake weights cannot be converted
        return {name: network.eval().requires_grad_(False) for name, network in networks(kind).items()}
    finally:
        torch.set_default_dtype(before)


def _bytes(networks: dict[str, torch.nn.Module]) -> dict[str, int]:
    return {name: sum(p.numel() * p.element_size() for p in net.parameters()) for name, net in networks.items()}


def memory(run: dict[str, Any]) -> list[float]:
    """Return GiB of weights, of a U-Net call, of a VAE call, in all, and in all with `offload=True`."""
    weights, unet, vae = run["weights"], run["unet"], run["vae"]
    total = sum(weights.values())
    offloaded = max(weights["unet"] + weights.get("second", 0) + unet, weights["vae"] + vae)
    return [n / GIB for n in (total, unet, vae, total + max(unet, vae), offloaded)]


RUNS = {
    "`interpolate`, SD 1.5, 512x512, 32 frames, `batch_size=8`": image_run,
    "`interpolate`, SDXL, 1024x1024, 32 frames, `batch_size=8`": lambda: image_run("sdxl", size=1024),
    "`inbetween`, SVD-XT, 1024x576, 25 frames": video_run,
    "the same, `model.low_memory = False`": lambda: video_run(low_memory=False),
    "a network per direction, maps stored between them": lambda: video_run(two_networks=True),
}


def main() -> None:
    tables = [[["GiB", "weights", "a U-Net call", "a VAE call", "in all", "in all, `offload=True`"]]]
    tables += [[[f"seconds at {SHARE:.0%} of the peak", "U-Net calls", "operations, 1e12", *CARDS]]]
    for name, compute in RUNS.items():
        run = compute()
        tables[0].append([name, *(f"{n:.1f}" for n in memory(run))])
        seconds = [f"{run['operations'] / (SHARE * peak * TERA):.0f}" for peak in CARDS.values()]
        tables[1].append([name, str(run["calls"]), f"{run['operations'] / TERA:.0f}", *seconds])
    for head, *rows in tables:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)), end="\n\n")


if __name__ == "__main__":
    main()
