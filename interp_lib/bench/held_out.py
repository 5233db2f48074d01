"""World pairs that no training has seen: training seeds start at a million."""

from __future__ import annotations

from interp_lib.types import Pair
from interp_lib.world import render_pair


def world_pairs(count: int, *, first: int = 0, hard: bool = True, size: int = 128, between: int = 0) -> list[Pair]:
    """`count` pairs with at least 32 actor pixels visible in both images, from seed `first` on.

    between: true frames between the two images. Raises ValueError through `render_pair`.
    """
    pairs, seed = [], first
    while len(pairs) < count:
        pair = render_pair(seed, size=size, hard=hard, between=between)
        if (pair.visible01 & pair.actor0).sum() >= 32:
            pairs.append(pair)
        seed += 1
    return pairs
