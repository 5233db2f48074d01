"""Temporal self-attention: record its maps, rotate them, run two directions of time in one batch (section 4.1)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.models.processors import split_heads, swap_processors

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
TILE = 4096  # pixels whose maps are in memory at a time, in `two_directions`


def rotate_map(a: Tensor) -> Tensor:
    """Rotate attention maps [..., N, N] by 180 degrees: A'[j,k] = A[N-1-j, N-1-k].

    Source: section 4.1. Rotating twice is the identity and rows still sum to one; with the same V and O, the rotated
    map on time-flipped values gives the time-flipped output. Raises ValueError for a map that is not square.
    """
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"a has shape {list(a.shape)}: attention maps are [..., N, N], a row and a column a frame.")
    return a.flip(-2, -1)


def temporal_attentions(unet: Any) -> dict[str, Any]:
    """Return name -> layer of every temporal self-attention in execution order: down-blocks, middle, up-blocks.

    Tokens are the frames, the batch is space. Raises ValueError where a network has none (an image model, say).
    """
    from diffusers.models.attention import TemporalBasicTransformerBlock

    layers = {
        f"{stage}.{name}.attn1": module.attn1
        for stage in ("down_blocks", "mid_block", "up_blocks")
        for name, module in getattr(unet, stage).named_modules()
        if isinstance(module, TemporalBasicTransformerBlock)
    }
    if not layers:
        raise ValueError(f"{type(unet).__name__} has no temporal self-attention: use the U-Net of a video model.")
    return layers


def choose_layers(unet: Any, blocks: str | Sequence[str] | None) -> dict[str, Any]:
    """Return the temporal self-attentions of some blocks (None: all); ValueError for a block that has none."""
    layers = temporal_attentions(unet)
    if blocks is None:
        return layers
    chosen = tuple(f"{block}." for block in ([blocks] if isinstance(blocks, str) else blocks))
    for start in chosen:
        if not any(name.startswith(start) for name in layers):
            there = ", ".join(dict.fromkeys(name.partition(".attentions")[0] for name in layers))
            raise ValueError(f"block {start[:-1]!r} has no temporal self-attention: the blocks are {there}.")
    return {name: attn for name, attn in layers.items() if name.startswith(chosen)}


@dataclass
class TemporalMaps:
    """The attention map of each layer in the last call of the U-Net, as `record_temporal_attention` yields them.

    names: the layers touched. maps: name -> [B*h*w, heads, N, N] in the layer's dtype, rows sum to one; entry
    [b*h*w + y*w + x] is what pixel (x, y) of the layer's grid attends to over the N frames.
    """

    names: list[str]
    maps: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def record_temporal_attention(unet: Any) -> Iterator[TemporalMaps]:
    """Record the map of every temporal self-attention within the block; no output changes by a bit."""
    layers = temporal_attentions(unet)
    recorded = TemporalMaps(list(layers))

    def record(name: str, plain: Any, attn: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        recorded.maps[name] = _map(attn, x).detach()
        return plain(attn, x, *args, **kwargs)

    with swap_processors(layers, lambda name, plain: partial(record, name, plain)):
        yield recorded


@contextmanager
def rotate_temporal_attention(
    unet: Any,
    maps: TemporalMaps | Mapping[str, Tensor],
    *,
    blocks: str | Sequence[str] | None = None,
    deltas: Mapping[str, Tensor] | None = None,
) -> Iterator[list[str]]:
    """Use recorded maps, rotated by 180 degrees, in temporal self-attention within the block; yield the layers.

    Source: section 4.1 and Alg. 1. Q and K are never computed. maps: of a call with the same batch, frames and size.
    blocks: stages that rotate, of "down_blocks", "mid_block", "up_blocks" or as fine as "up_blocks.1"; None is all.
    deltas: U-Net parameter name -> what is added to that weight within the block (Alg. 1's to_v and to_out).
    Raises ValueError for a layer without a map, a map of another shape (when the layer runs), and unknown blocks.
    """
    layers = choose_layers(unet, blocks)
    recorded = maps.maps if isinstance(maps, TemporalMaps) else maps
    if absent := [name for name in layers if name not in recorded]:
        raise ValueError(f"maps has none for {absent[0]}: record them with record_temporal_attention first.")

    def rotate(name: str, attn: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        a, shape = recorded[name], [len(x), attn.heads, x.shape[1], x.shape[1]]
        if list(a.shape) != shape:
            raise ValueError(
                f"the map of {name} has shape {list(a.shape)} and the layer runs on {shape}: record the maps at the "
                "same size, batch and number of frames."
            )
        return _attend(attn, x, _tuned_weights(attn, name, deltas), rotate_map(a.to(x)))

    with swap_processors(layers, lambda name, plain: partial(rotate, name)):
        yield list(layers)


@contextmanager
def tune_temporal_attention(unet: Any, deltas: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Add `deltas` to the weights of temporal self-attention within the block, without rotation; yield the layers."""
    layers = temporal_attentions(unet)

    def tune(name: str, attn: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _attend(attn, x, _tuned_weights(attn, name, deltas))

    with swap_processors(layers, lambda name, plain: partial(tune, name)):
        yield list(layers)


@contextmanager
def two_directions(
    unet: Any, *, rotate: str | Sequence[str] | None = None, deltas: Mapping[str, Tensor] | None = None
) -> Iterator[list[str]]:
    """Treat a batch as [forward half, backward half] within the block; yield the names of the layers that rotate.

    Source: section 4.3, Alg. 2, in one call: the forward half computes its maps A, the backward half, in flipped time,
    uses rot(A) with its own to_v and to_out (`deltas` added); the maps never leave the layer and no weight is stored
    twice. rotate: blocks that rotate (None all, () none); elsewhere the backward half attends to itself, with deltas of
    to_q and to_k too where there are any.
    """
    layers = temporal_attentions(unet)
    rotating = set(choose_layers(unet, rotate))

    def both(name: str, attn: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain, tuned = _tuned_weights(attn, name, None), _tuned_weights(attn, name, deltas)
        forward, backward = [], []
        # some pixels at a time, which bounds the memory and does not change the numbers
        for f, b in zip(*(half.split(TILE) for half in x.chunk(2)), strict=True):
            a = _map(attn, f) if name in rotating else None
            forward.append(_attend(attn, f, plain, a))
            backward.append(_attend(attn, b, tuned, None if a is None else rotate_map(a)))
        return torch.cat(forward + backward)

    with swap_processors(layers, lambda name, plain: partial(both, name)):
        yield sorted(rotating)


def _map(attn: Any, x: Tensor) -> Tensor:
    """Compute A = softmax(Q K^T / sqrt d), [B, heads, N, N], in float32 whatever the dtype of Q and K."""
    q, k = split_heads(attn.to_q(x), attn.heads), split_heads(attn.to_k(x), attn.heads)
    return (q.float() @ k.float().transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1).to(q.dtype)


def _attend(attn: Any, x: Tensor, weights: Mapping[str, Tensor], a: Tensor | None = None) -> Tensor:
    """Compute a layer's output for x [B,N,C] by these weights, with the map `a` or, without one, its own attention."""
    if a is None:
        q, k, v = (split_heads(F.linear(x, weights[p]), attn.heads) for p in PROJECTIONS[:3])
        joined = F.scaled_dot_product_attention(q, k, v)
    else:
        joined = a @ split_heads(F.linear(x, weights["to_v"]), attn.heads)
    joined, bias = joined.transpose(1, 2).flatten(2), attn.to_out[0].bias
    return F.linear(joined, weights["to_out.0"], bias) / attn.rescale_output_factor


def _tuned_weights(attn: Any, name: str, deltas: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return projection -> weight with its delta added, of one layer as it runs; differentiable in the deltas."""
    weights = {p: attn.get_submodule(p).weight for p in PROJECTIONS}
    added = {p: (deltas or {}).get(f"{name}.{p}.weight") for p in PROJECTIONS}
    return {p: w if added[p] is None else w + added[p].to(w) for p, w in weights.items()}
