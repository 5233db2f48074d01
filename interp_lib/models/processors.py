"""Attention processors replaced for a while: the one place that exchanges what a network's attention computes with."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor


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
