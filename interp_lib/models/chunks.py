"""Work in chunks: frames gathered in one tensor that is made once, feed-forward layers in parts."""

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
    """`work` on parts of x along its first axis, no more than `chunk` at a time; the results one after the other.

    out: where they are put, on any device; None makes it where `work` leaves them. Beside it no more than one chunk's
    result exists, so a GPU need not hold all of them. progress: the name of a bar over the chunks, "" for none.
    """
    for start in tqdm(range(0, len(x), chunk), desc=progress, unit="chunk", disable=not progress):
        made = work(x[start : start + chunk])
        if out is None:
            out = torch.empty(len(x), *made.shape[1:], dtype=made.dtype, device=made.device)
        out[start : start + len(made)] = made
    return work(x) if out is None else out


@contextmanager
def sliced_feed_forward(*blocks: torch.nn.Module) -> Iterator[None]:
    """While it lasts, the feed-forward layers of these blocks run on an eighth of their input at a time, and hold an
    eighth of their eightfold channels. diffusers' own chunks are a frame each, which is slower."""
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
