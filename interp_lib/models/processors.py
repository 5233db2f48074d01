"""What a network computes with, replaced for a while: attention processors, and feed-forward layers in parts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

PARTS = 8


@contextmanager
def swap_processors(layers: Mapping[str, Any], make: Callable[[str, Any], Any]) -> Iterator[None]:
    """Replace the attention processors of some layers within the block; put the old ones back, whatever happens in it.

    layers: name -> attention module. make(name, processor): what takes the place of the layer's own processor.
    """
    before = {name: attn.processor for name, attn in layers.items()}
    try:
        for name, attn in layers.items():
            attn.set_processor(make(name, before[name]))
        yield
    finally:
        for name, attn in layers.items():
            attn.set_processor(before[name])


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, tokens, heads*d] -> [B, heads, tokens, d]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@contextmanager
def sliced_feed_forward(*blocks: torch.nn.Module) -> Iterator[None]:
    """Run the feed-forward layers of these blocks on an eighth of their input at a time, within the block.

    They widen it eightfold, so this saves most of their memory; diffusers' own chunks, a frame each, are slower.
    """
    from diffusers.models.attention import FeedForward

    def in_parts(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return torch.cat([work(part) for part in x.chunk(PARTS)])

    layers = [layer for block in blocks for layer in block.modules() if isinstance(layer, FeedForward)]
    try:
        for layer in layers:
            layer.forward = partial(in_parts, layer.forward)
        yield
    finally:
        for layer in layers:
            del layer.forward
