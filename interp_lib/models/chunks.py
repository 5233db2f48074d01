"""Work in chunks, gathered in one tensor that is made once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm.auto import tqdm


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
