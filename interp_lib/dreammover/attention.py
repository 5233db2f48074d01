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
from interp_lib.models.processors import split_heads, swap_processors


class EndpointControl:
    """Says how the next calls are to be read; `replace_self_attention` yields it.

    names, count: the self-attention layers that are replaced. By default a batch is read as [image 0, middle frames,
    image 1]. In `storing()` a batch is the two endpoints and their K and V are stored; in `reusing()` every frame of a
    batch is a middle frame and the stored K and V are used, so that any number of frames can go through in batches.
    stored: name -> (K, V), each [2,heads,L,d] for a layer of L tokens. `recording()` keeps attention maps.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.count, self.mode = list(names), len(names), "batch"
        self.stored: dict[str, tuple[Tensor, Tensor]] = {}
        self.watched: dict[str, tuple[list[int], list[Tensor]]] = {}

    # Eq. 10
    @contextmanager
    def recording(self, layer: str, queries: Sequence[int]) -> Iterator[list[Tensor]]:
        """Record what some queries of the middle frames attend to in one layer. Yields the list of maps.

        Source: Eq. 10, softmax(Q K^T / sqrt d) over K = K0 (+) K1; Fig. 6.
        layer: one of `names`. queries: tokens of the layer's grid, row by row from 0. Every call of the layer with n
        middle frames appends one tensor [n,heads,len(queries),2,L], float32: the weight of each of the L tokens of
        image 0 and of image 1. A map sums to 1; the layer's output does not change by a bit.
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
        """Read batches as the two endpoints and store their K and V."""
        self.stored.clear()
        with self._reading("storing"):
            yield

    @contextmanager
    def reusing(self) -> Iterator[None]:
        """Read batches as middle frames that attend to the stored K and V."""
        if not self.stored:
            raise ValueError("No endpoint keys and values are stored: run the two endpoints inside storing() first.")
        with self._reading("reusing"):
            yield

    @contextmanager
    def _reading(self, mode: str) -> Iterator[None]:
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
        q = _normed(split_heads(attn.to_q(x), attn.heads), attn.norm_q)
        if mode == "reusing":
            return _project_out(attn, self._attend_to_both(q, *self.control.stored[self.name]))
        ends = x if mode == "storing" else x[[0, -1]]
        k = _normed(split_heads(attn.to_k(ends), attn.heads), attn.norm_k)
        v = split_heads(attn.to_v(ends), attn.heads)
        if mode == "storing":
            self.control.stored[self.name] = k, v
            return _project_out(attn, F.scaled_dot_product_attention(q, k, v))
        own = F.scaled_dot_product_attention(q[[0, -1]], k, v)
        return _project_out(attn, torch.cat([own[:1], self._attend_to_both(q[1:-1], k, v), own[1:]]))

    # Eq. 9
    def _attend_to_both(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let q [n,heads,L,d] attend to both endpoints' k, v [2,heads,L,d], joined along the tokens."""
        k, v = (torch.cat([x[:1], x[1:]], dim=2) for x in (k, v))
        if self.name in self.control.watched:
            queries, maps = self.control.watched[self.name]
            maps.append(_attention_rows(q, k, queries))
        return F.scaled_dot_product_attention(q, *(x.expand(len(q), -1, -1, -1) for x in (k, v)))


# Eq. 9 and 10
@contextmanager
def replace_self_attention(
    unet: Any, *, blocks: int | Sequence[int] | None = None, preset: str = "paper"
) -> Iterator[EndpointControl]:
    """Let middle frames attend to both endpoints in the self-attention of up-blocks. Yields the control.

    Source: section 3.4, Eq. 9 and 10. The first and the last of a batch are the endpoints (or their stored K and V
    are used, see `EndpointControl`); a batch without middle frames passes through bit for bit.
    blocks: up-blocks counted from 0; None is by preset: "paper" every up-block, "released" the last two.
    Raises ValueError for a block that does not exist and when no layer matches. The processors that were there before
    come back when the body ends, also when it raises.
    """
    layers = _choose_layers(unet, blocks, preset)
    control = EndpointControl(list(layers))
    try:
        with swap_processors(layers, lambda name, plain: EndpointAttention(control, name, plain)):
            yield control
    finally:
        control.stored.clear()


def _choose_layers(unet: Any, blocks: int | Sequence[int] | None, preset: str) -> dict[str, Any]:
    check_choice("preset", preset, PRESETS)
    count = len(unet.up_blocks)
    if blocks is None:
        chosen = range(count) if preset == "paper" else range(count)[-2:]
    else:
        chosen = [blocks] if isinstance(blocks, int) else list(blocks)
    for block in chosen:
        if isinstance(block, bool) or not isinstance(block, int) or not 0 <= block < count:
            raise ValueError(f"blocks={blocks!r} names no up-block: this U-Net has {count}, counted from 0.")
    layers = dict(layer for block in sorted(set(chosen)) for layer in up_block_self_attentions(unet, block))
    if not layers:
        have = [b for b in range(count) if up_block_self_attentions(unet, b)]
        raise ValueError(
            f"blocks={blocks!r} has no self-attention to replace: the up-blocks with attention are {have}."
        )
    return layers


def _normed(x: Tensor, norm: Any) -> Tensor:
    return x if norm is None else norm(x)


# Eq. 10
@torch.no_grad()
def _attention_rows(q: Tensor, k: Tensor, queries: list[int]) -> Tensor:
    """Return rows `queries` of softmax(Q K^T / sqrt d), [n,heads,len(queries),2,L]; k: [1,heads,2L,d]."""
    tokens = q.shape[2]
    if not all(0 <= i < tokens for i in queries):
        raise ValueError(f"queries={queries} are not all tokens of this layer: it has {tokens}, counted from 0.")
    scores = q[:, :, queries].float() @ k.float().transpose(2, 3) / q.shape[3] ** 0.5
    return scores.softmax(dim=-1).unflatten(-1, (2, tokens))


def _project_out(attn: Any, x: Tensor) -> Tensor:
    """Join the heads and apply the layer's output projection (and its dropout, which is off in eval mode)."""
    x = x.transpose(1, 2).flatten(2)
    for layer in attn.to_out:
        x = layer(x)
    return x / attn.rescale_output_factor
