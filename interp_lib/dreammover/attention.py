"""Self-attention concatenation and replacement (paper section 3.4, Fig. 6, Eq. 9 and 10)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_choice
from interp_lib.dreammover.ddim import PRESETS
from interp_lib.models.image_model import up_block_self_attentions
from interp_lib.models.processors import split_heads, swap_processors


class EndpointControl:
    """Says how the next batches are read, and stores the endpoints' K and V; `replace_self_attention` yields it.

    By default a batch is [image 0, middle frames, image 1]. In `storing()` it is the two endpoints, whose K and V are
    stored; in `reusing()` it is middle frames alone, which attend to the stored ones, in batches of any size.
    names, count: the layers that are replaced. stored: name -> (K, V), each [2,heads,L,d] for a layer of L tokens.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.count, self.mode = list(names), len(names), "batch"
        self.stored: dict[str, tuple[Tensor, Tensor]] = {}
        self.watched: dict[str, tuple[list[int], list[Tensor]]] = {}

    # Eq. 10
    @contextmanager
    def recording(self, layer: str, queries: Sequence[int]) -> Iterator[list[Tensor]]:
        """Record what some queries of the middle frames attend to in one layer; yield the list of maps.

        Source: Eq. 10, softmax(Q K^T / sqrt d) over K = K0 (+) K1; Fig. 6. layer: one of `names`. queries: tokens of
        its grid, row by row from 0. Every call of the layer with n middle frames appends [n,heads,len(queries),2,L],
        float32: the weights of the L tokens of image 0 and of image 1, which sum to 1. Raises ValueError for a layer
        that is not replaced or is recorded already, and for a query out of range.
        """
        if layer not in self.names or layer in self.watched:
            why = "recorded already" if layer in self.watched else f"not replaced: choose from {', '.join(self.names)}"
            raise ValueError(f"layer {layer!r} is {why}.")
        maps: list[Tensor] = []
        self.watched[layer] = list(queries), maps
        try:
            yield maps
        finally:
            del self.watched[layer]

    def storing(self) -> AbstractContextManager[None]:
        """Read batches as the two endpoints and store their K and V."""
        self.stored.clear()
        return self._reading("storing")

    def reusing(self) -> AbstractContextManager[None]:
        """Read batches as middle frames that attend to the stored K and V."""
        if not self.stored:
            raise ValueError("No endpoint keys and values are stored: run the two endpoints inside storing() first.")
        return self._reading("reusing")

    @contextmanager
    def _reading(self, mode: str) -> Iterator[None]:
        before, self.mode = self.mode, mode
        try:
            yield
        finally:
            self.mode = before

    def processor(self, name: str, plain: Any) -> Callable[..., Tensor]:
        """Return a layer's attention processor: the endpoints attend to themselves, middle frames need no own K, V."""

        def attend(attn: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self.mode == "batch" and len(x) < 3:  # no middle frame: nothing to replace
                return plain(attn, x, *args, **kwargs)
            if self.mode == "storing" and len(x) != 2:
                raise ValueError(f"storing() takes the two endpoints in one batch, not {len(x)} frames.")
            q = split_heads(attn.to_q(x), attn.heads)
            if self.mode == "reusing":
                out = self._attend_to_both(name, q, *self.stored[name])
            else:
                k, v = (split_heads(project(x[[0, -1]]), attn.heads) for project in (attn.to_k, attn.to_v))
                out = F.scaled_dot_product_attention(q[[0, -1]], k, v)
                if self.mode == "storing":
                    self.stored[name] = k, v
                else:
                    out = torch.cat([out[:1], self._attend_to_both(name, q[1:-1], k, v), out[1:]])
            out = out.transpose(1, 2).flatten(2)
            for layer in attn.to_out:
                out = layer(out)
            return out

        return attend

    # Eq. 9: Q = Q^d, K = K^0 (+) K^1, V = V^0 (+) V^1
    def _attend_to_both(self, name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let q [n,heads,L,d] attend to both endpoints' k, v [2,heads,L,d], joined along the tokens."""
        k, v = (torch.cat([x[:1], x[1:]], dim=2) for x in (k, v))
        if name in self.watched:
            queries, maps = self.watched[name]
            tokens = q.shape[2]
            if not all(0 <= i < tokens for i in queries):
                raise ValueError(f"queries={queries} are not all tokens of this layer: it has {tokens}, from 0 on.")
            scores = q[:, :, queries].detach().float() @ k.detach().float().transpose(2, 3) / q.shape[3] ** 0.5
            maps.append(scores.softmax(dim=-1).unflatten(-1, (2, tokens)))
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
    Raises ValueError for a block that does not exist and when no layer matches. Restores the former processors.
    """
    check_choice("preset", preset, PRESETS)
    every = range(len(unet.up_blocks))
    chosen = every[0 if preset == "paper" else -2 :] if blocks is None else blocks
    chosen = {chosen} if isinstance(chosen, int) else set(chosen)
    if not chosen <= set(every):
        raise ValueError(f"blocks={blocks!r} names no up-block: this U-Net has {len(every)}, counted from 0.")
    layers = {block: dict(up_block_self_attentions(unet, block)) for block in every}
    replaced = {name: attn for block in sorted(chosen) for name, attn in layers[block].items()}
    if not replaced:
        have = [block for block in every if layers[block]]
        raise ValueError(f"blocks={blocks!r} has no self-attention: the up-blocks with attention are {have}.")
    control = EndpointControl(list(replaced))
    try:
        with swap_processors(replaced, control.processor):
            yield control
    finally:
        control.stored.clear()
