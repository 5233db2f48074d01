"""Bound the memory of a large U-Net call: feed-forward layers in parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

PARTS = 8


@contextmanager
def sliced_feed_forward(*blocks: torch.nn.Module) -> Iterator[None]:
    """Run the feed-forward layers of these blocks on an eighth of their input at a time, within the block.

    They widen their input eightfold, so this saves most of their memory. diffusers' own chunks are a frame each, which
    is slower.
    """
    from diffusers.models.attention import FeedForward

    layers = [layer for block in blocks for layer in block.modules() if isinstance(layer, FeedForward)]
    try:
        for layer in layers:
            layer.forward = partial(_in_parts, layer.forward)
        yield
    finally:
        for layer in layers:
            del layer.forward


def _in_parts(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([work(part) for part in x.chunk(PARTS)])
