"""Controls for a notebook's reader. Each wraps a pure function, which a cell can call without any widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from ipywidgets import interactive
    from PIL.Image import Image


def frame_at(frames: Tensor, position: float, *, height: int = 256) -> Image:
    """The frame nearest to a position in time, enlarged without smoothing to about `height` pixels.

    frames: [T,3,H,W] in [0,1]; position: 0 (first frame) to 1 (last). Raises ValueError outside.
    """
    if not 0 <= position <= 1:
        raise ValueError(f"position must lie between 0 and 1, got {position}")
    from PIL import Image

    frame = frames[round(position * (len(frames) - 1))].detach().float().clamp(0, 1).cpu()
    image = Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy())
    scale = max(1, height // image.height)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def explore(function: Callable[..., Any], **controls: Any) -> interactive:
    """Sliders and menus for the arguments of `function`, whose result is shown again whenever one is let go.

    controls: as in ipywidgets.interact, e.g. delta=(0.0, 1.0, 0.1), method=["direct", "two-level"], or a widget.
    The first call, at the first values, is part of the cell: what it raises is the cell's error, which a widget hides.
    """
    from ipywidgets import interactive

    raised: list[Exception] = []

    def call(**values: Any) -> Any:
        try:
            return function(**values)
        except Exception as error:
            raised.append(error)
            raise

    panel = interactive(call, {"auto_display": True}, **controls)  # a bare `interactive` shows nothing
    if raised:
        raise raised[0]
    for box in panel.children:
        if hasattr(box, "continuous_update"):
            box.continuous_update = False
    return panel


def frame_slider(frames: Tensor, *, height: int = 256) -> interactive:
    """A slider over time: frame_at(frames, position)."""
    step = 1 / max(len(frames) - 1, 1)

    def show(position: float) -> Image:
        return frame_at(frames, min(position, 1.0), height=height)

    return explore(show, position=(0.0, 1.0, step))
