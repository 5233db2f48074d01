"""Self-attention concatenation and replacement (paper section 3.4, Fig. 6, Eq. 9 and 10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_choice
from interp_lib.dreammover.ddim import PRESETS
from interp_lib.models.image_model import up_block_self_attentions


class EndpointControl:
    """What `replace_self_attention` yields: the layers it touched and how the next calls are to be read.

    count, names: the self-attention layers touched. Without further ado a batch is read as [image 0, middle frames,
    image 1]. In `storing()` a batch is the two endpoints and their K and V are kept; in `reusing()` every frame of a
    batch is a middle frame and the kept K and V are used, so that any number of frames can go through in chunks.
    kept: name -> (K, V), each [2,heads,L,d] for a layer of L tokens. `recording()` keeps attention maps.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.count, self.mode = list(names), len(names), "batch"
        self.kept: dict[str, tuple[Tensor, Tensor]] = {}
        self.watched: dict[str, tuple[list[int], list[Tensor]]] = {}

    @contextmanager
    def recording(self, layer: str, queries: Sequence[int]) -> Iterator[list[Tensor]]:
        """While it lasts, keep where some queries of the middle frames look to in one layer. Yields the list of maps.

        Source: Eq. 10, softmax(Q K^T / sqrt d) over K = K0 (+) K1; Fig. 6.
        layer: one of `names`. queries: tokens of the layer's grid, row by row from 0. Every call of the layer with n
        middle frames appends one tensor [n,heads,len(queries),2,L], float32: the weight of each of the L tokens of
        image 0 and of image 1. A map sums to 1; what the layer puts out is not changed by a bit.
        Raises ValueError for a layer that is not replaced or is being recorded already, and for a query that is no
        token of it.
        """
        if layer not in self.names or layer in self.watched:
            why = "recorded already" if layer in self.watched else f"not replaced: choose from {', '.join(self.names)}"
            raise ValueError(f"layer {layer!r} is {why}.")
        maps: list[Tensor] = []
        self.watched[layer] = [int(i) for i in queries], maps
        try:
            yield maps
        finally:
            del self.watched[layer]

    @contextmanager
    def storing(self) -> Iterator[None]:
        self.kept.clear()
        with self._as("storing"):
            yield

    @contextmanager
    def reusing(self) -> Iterator[None]:
        if not self.kept:
            raise ValueError("No endpoint keys and values are kept: run the two endpoints inside storing() first.")
        with self._as("reusing"):
            yield

    @contextmanager
    def _as(self, mode: str) -> Iterator[None]:
        before, self.mode = self.mode, mode
        try:
            yield
        finally:
            self.mode = before


class EndpointAttention:
    """Attention processor of one layer: Q = Q^d, K = K^0 (+) K^1, V = V^0 (+) V^1 for the middle frames.

    Their own K and V are never computed. Endpoints attend to themselves.
    """

    def __init__(self, control: EndpointControl, name: str, plain: Any):
        self.control, self.name, self.plain = control, name, plain

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        x, mode = hidden_states, self.control.mode
        if mode == "batch" and len(x) < 3:  # no middle frame: nothing to replace
            return self.plain(attn, hidden_states, *args, **kwargs)
        if mode == "storing" and len(x) != 2:
            raise ValueError(f"storing() takes the two endpoints in one batch, not {len(x)} frames.")
        q = _normed(_heads(attn.to_q(x), attn.heads), attn.norm_q)
        if mode == "reusing":
            return _out(attn, self._both(q, *self.control.kept[self.name]))
        ends = x if mode == "storing" else x[[0, -1]]
        k = _normed(_heads(attn.to_k(ends), attn.heads), attn.norm_k)
        v = _heads(attn.to_v(ends), attn.heads)
        if mode == "storing":
            self.control.kept[self.name] = k, v
            return _out(attn, F.scaled_dot_product_attention(q, k, v))
        own = F.scaled_dot_product_attention(q[[0, -1]], k, v)
        return _out(attn, torch.cat([own[:1], self._both(q[1:-1], k, v), own[1:]]))

    def _both(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [n,heads,L,d] over the two endpoints' k, v [2,heads,L,d], joined along the tokens (Eq. 9)."""
        k, v = (torch.cat([x[:1], x[1:]], dim=2) for x in (k, v))
        if self.name in self.control.watched:
            queries, maps = self.control.watched[self.name]
            maps.append(_weights(q, k, queries))
        return F.scaled_dot_product_attention(q, *(x.expand(len(q), -1, -1, -1) for x in (k, v)))


@contextmanager
def replace_self_attention(
    unet: Any, *, blocks: int | Sequence[int] | None = None, preset: str = "paper"
) -> Iterator[EndpointControl]:
    """While it lasts, middle frames attend to both endpoints in the self-attention of up-blocks. Yields the control.

    Source: section 3.4, Eq. 9 and 10. The first and the last of a batch are the endpoints (or their stored K and V
    are used, see `EndpointControl`); a batch without middle frames passes through bit for bit.
    blocks: up-blocks counted from 0; None is by preset: "paper" every up-block, "released" the last two.
    Raises ValueError for a block that does not exist and when no layer matches. The processors that were there before
    come back when the body ends, also when it raises.
    """
    layers = _choose(unet, blocks, preset)
    control = EndpointControl([name for name, _ in layers])
    before = [attn.processor for _, attn in layers]
    try:
        for (name, attn), plain in zip(layers, before, strict=True):
            attn.set_processor(EndpointAttention(control, name, plain))
        yield control
    finally:
        for (_, attn), plain in zip(layers, before, strict=True):
            attn.set_processor(plain)
        control.kept.clear()


def _choose(unet: Any, blocks: int | Sequence[int] | None, preset: str) -> list[tuple[str, Any]]:
    check_choice("preset", preset, PRESETS)
    count = len(unet.up_blocks)
    if blocks is None:
        chosen = range(count) if preset == "paper" else range(count)[-2:]
    else:
        chosen = [blocks] if isinstance(blocks, int) else list(blocks)
    for block in chosen:
        if isinstance(block, bool) or not isinstance(block, int) or not 0 <= block < count:
            raise ValueError(f"blocks={blocks!r} names no up-block: this U-Net has {count}, counted from 0.")
    layers = [layer for block in sorted(set(chosen)) for layer in up_block_self_attentions(unet, block)]
    if not layers:
        have = [b for b in range(count) if up_block_self_attentions(unet, b)]
        raise ValueError(
            f"blocks={blocks!r} has no self-attention to replace: the up-blocks with attention are {have}."
        )
    return layers


def _heads(x: Tensor, heads: int) -> Tensor:
    """[B, tokens, heads*d] -> [B, heads, tokens, d]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _normed(x: Tensor, norm: Any) -> Tensor:
    return x if norm is None else norm(x)


@torch.no_grad()
def _weights(q: Tensor, k: Tensor, queries: list[int]) -> Tensor:
    """Rows `queries` of softmax(Q K^T / sqrt d), [n,heads,len(queries),2,L], from q [n,heads,L,d], k [1,heads,2L,d]."""
    tokens = q.shape[2]
    if not all(0 <= i < tokens for i in queries):
        raise ValueError(f"queries={queries} are not all tokens of this layer: it has {tokens}, counted from 0.")
    scores = q[:, :, queries].float() @ k.float().transpose(2, 3) / q.shape[3] ** 0.5
    return scores.softmax(dim=-1).unflatten(-1, (2, tokens))


def _out(attn: Any, x: Tensor) -> Tensor:
    """Heads joined, then the layer's output projection (and its dropout, which is off in eval mode)."""
    x = x.transpose(1, 2).flatten(2)
    for layer in attn.to_out:
        x = layer(x)
    return x / attn.rescale_output_factor
