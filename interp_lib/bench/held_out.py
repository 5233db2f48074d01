"""World pairs that no training has seen: training seeds start at a million."""

from itertools import count as count_from
from itertools import islice

from interp_lib.types import Pair
from interp_lib.world import render_pair


def world_pairs(count: int, *, first: int = 0, hard: bool = True, size: int = 128, between: int = 0) -> list[Pair]:
    """Render `count` pairs with at least 32 object pixels visible in both images, from seed `first` on.

    between: true frames between the two images. Raises ValueError through `render_pair`.
    """
    pairs = (render_pair(seed, size=size, hard=hard, between=between) for seed in count_from(first))
    return list(islice((pair for pair in pairs if (pair.visible01 & pair.actor0).sum() >= 32), count))
