"""Bound the memory of large inputs: work in chunks, and feed-forward layers in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

PARTS = 8


def in_chunks(
    work: Callable[[Tensor], Tensor], x: Tensor, chunk: int, *, out: Tensor | None = None, progress: str = ""
) -> Tensor:
    """Apply `work` to at most `chunk` items of x at a time, along its first axis, and gather the results.

    out: a tensor on any device that receives them; None makes one where `work` leaves its results. Apart from it, only
    one chunk's result exists at a time, so a GPU need not store all of them. progress: the name of a bar, "" for none.
    """
    for start in tqdm(range(0, len(x), chunk), desc=progress, unit="chunk", disable=not progress):
        part = work(x[start : start + chunk])
        if out is None:
            out = torch.empty(len(x), *part.shape[1:], dtype=part.dtype, device=part.device)
        out[start : start + len(part)] = part
    return work(x) if out is None else out


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
    return in_chunks(work, x, -(-len(x) // PARTS))
