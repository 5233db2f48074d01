"""Controls for a notebook's reader. Each wraps a pure function, which a cell can call without any widget."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from interp_lib.checks import check_tensors

if TYPE_CHECKING:
    from ipywidgets import VBox
    from PIL.Image import Image


def frame_at(frames: Tensor | Mapping[str, Tensor], position: float, *, height: int = 256) -> Image:
    """Return the frame nearest to a position in time, enlarged without smoothing to about `height` pixels.

    frames: [T,3,H,W] in [0,1], or several videos by name, whose frames at that time stand side by side under their
    names; position: 0 (first frame) to 1 (last). Raises ValueError outside, and for no video.
    """
    check_tensors(**(frames if isinstance(frames, Mapping) else {"frames": frames}))
    if isinstance(position, str) or not 0 <= position <= 1:
        raise ValueError(f"position must lie between 0 and 1, got {position}")
    from PIL import Image

    if isinstance(frames, Mapping):
        return _side_by_side({name: frame_at(video, position, height=height) for name, video in frames.items()})
    frame = frames[round(position * (len(frames) - 1))].detach().float().clamp(0, 1).cpu()
    image = Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy())
    scale = max(1, height // image.height)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _side_by_side(pictures: Mapping[str, Image]) -> Image:
    """Pictures in a row, each under its name."""
    from PIL import Image, ImageDraw, ImageFont

    if not pictures:
        raise ValueError("there is no video to show: give at least one, name -> frames.")
    font, gap, line = ImageFont.load_default(14), 8, 22  # pixels
    widths = [max(picture.width, math.ceil(font.getlength(name))) for name, picture in pictures.items()]
    tall = line + max(picture.height for picture in pictures.values())
    sheet = Image.new("RGB", (sum(widths) + gap * (len(widths) - 1), tall), "white")
    pen, left = ImageDraw.Draw(sheet), 0
    for (name, picture), width in zip(pictures.items(), widths, strict=True):
        pen.text((left, 2), name, fill="black", font=font)
        sheet.paste(picture, (left, line))
        left += width + gap
    return sheet


def frame_slider(frames: Tensor | Mapping[str, Tensor], *, height: int = 256) -> VBox:
    """Make a slider over time: frame_at(frames, position). Several videos, name -> frames, are shown side by side."""
    videos = list(frames.values()) if isinstance(frames, Mapping) else [frames]
    step = 1 / max(max(map(len, videos)) - 1, 1)

    def show(position: float) -> Image:
        """The frame nearest to a position in time."""
        return frame_at(frames, min(position, 1.0), height=height)

    return explore(show, position=(0.0, 1.0, step))


def explore(function: Callable[..., Any], **controls: Any) -> VBox:
    """Make sliders and buttons for the arguments of `function`; its result is shown again when one is released.

    function: returns a picture (PIL or matplotlib) or text; what it prints is shown above. Its docstring's first line
    and the values chosen are the picture's alt text. controls: as in ipywidgets.interact, e.g. delta=(0.0, 1.0, 0.1),
    method=["direct", "two-level"], or a widget. A list becomes a row of buttons: JupyterLab keeps the arrow keys of a
    menu for itself, while sliders move by arrow keys and buttons by Tab and Enter.
    The panel's `.look` is `function`, for a picture without a widget.
    The first call, at the first values, is part of the cell: what it raises is the cell's error. What a later call
    raises is shown in the place of the picture. Raises ValueError for what is no control.
    """
    # Not ipywidgets.interactive: its Output widget makes whoever executes the notebook without a browser answer the
    # kernel in the middle of a cell, and that sometimes hangs.
    from ipywidgets import HTML, VBox

    knobs = {name: _knob(name, control) for name, control in controls.items()}
    view = HTML(layout={"width": "100%", "margin": "0"})  # with a margin the whole width would be too wide

    def update(change: Any) -> None:
        try:
            view.value = _render(function, {name: knob.value for name, knob in knobs.items()})
        except Exception as error:
            view.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    view.value = _render(function, {name: knob.value for name, knob in knobs.items()})
    for knob in knobs.values():
        knob.observe(update, names="value")
    panel = VBox([*knobs.values(), view])
    panel.look = function
    return panel


def _knob(name: str, control: Any) -> Any:
    """The widget for a control."""
    from ipywidgets import Dropdown, ToggleButtons, Widget, interactive

    knob = interactive.widget_from_abbrev(control)
    if knob is None:
        raise ValueError(f"{name}={control!r} is no control: give a range, a list, or a widget.")
    if isinstance(knob, Dropdown) and not isinstance(control, Widget):
        knob = ToggleButtons(options=knob.options, value=knob.value, style={"button_width": "auto"})
    knob.description = knob.description or name.replace("_", " ")
    if hasattr(knob, "continuous_update"):
        knob.continuous_update = False
    return knob


def _render(function: Callable[..., Any], values: dict[str, Any]) -> str:
    """What the function prints, then its picture with alt text; any other result as text."""
    printed, picture = io.StringIO(), io.BytesIO()
    with contextlib.redirect_stdout(printed):
        result = function(**values)
    if hasattr(result, "savefig"):
        result.savefig(picture, format="png")
    elif hasattr(result, "save"):
        result.save(picture, format="PNG")
    elif result is not None:
        print(result, file=printed)
    text = printed.getvalue().rstrip()
    shown = f"<pre>{html.escape(text)}</pre>" if text else ""
    if picture.tell():
        about = (function.__doc__ or function.__name__).strip().splitlines()[0]
        chosen = ", ".join(f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in values.items())
        data = base64.b64encode(picture.getvalue()).decode()
        style = "max-width: 100%; height: auto"
        shown += f'<img alt="{html.escape(f"{about} {chosen}")}" style="{style}" src="data:image/png;base64,{data}">'
    return shown
