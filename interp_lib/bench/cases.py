"""What a benchmark interpolates: a pair of keyframes with everything that is known about what lies between."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from interp_lib.types import Pair

TrueFlow = Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass
class Case:
    """One row's worth of work: two keyframes and the truth about the frames between them, where there is one.

    pair: `.frames` are the true frames [T,3,H,W] with both ends, or None. flow: of frame i to frame j, the true flow
    [1,2,H,W] in pixels and where it is visible, [1,1,H,W] bool; None where it is unknown. moving: [T,1,H,W] bool, the
    pixels on which something moves. ground: [1,3,H,W], the scene without its actor, which goes along `facing` (+1
    right, -1 left, 0 unknown). tags: what the case is graded by, such as {"displacement": 0.27} in image sides.
    """

    pair: Pair
    flow: TrueFlow | None = None
    moving: Tensor | None = None
    ground: Tensor | None = None
    facing: float = 0.0
    tags: dict[str, float | str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.pair.name
