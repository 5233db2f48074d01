"""Controls for a notebook's reader. Each wraps a pure function, which a cell can call without any widget."""

import contextlib
import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ipywidgets import HTML, Dropdown, ToggleButtons, VBox, Widget, interactive
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from interp_lib.checks import check_tensors
from interp_lib.images import to_pil
from interp_lib.show.figure import contact_sheet
from interp_lib.show.media import data_url


def frame_at(frames: Tensor, position: float, *, height: int = 256) -> Image.Image:
    """Return the frame nearest to a position in time, enlarged without smoothing to about `height` pixels.

    frames: [T,3,H,W] in [0,1]. position: 0 (first frame) to 1 (last). Raises ValueError outside.
    """
    check_tensors(frames=frames)
    if isinstance(position, str) or not 0 <= position <= 1:
        raise ValueError(f"position must lie between 0 and 1, got {position}")
    image = to_pil(frames[round(position * (len(frames) - 1))].clamp(0, 1))
    scale = max(1, height // image.height)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def frame_slider(frames: Tensor | Mapping[str, Tensor], *, height: int = 256) -> VBox:
    """Make a slider over time for one video, or for several of one size by name, which stand side by side.

    frames: [T,3,H,W] in [0,1], or name -> such frames. height: of a picture, in pixels.
    """
    videos = frames if isinstance(frames, Mapping) else {"": frames}
    check_tensors(**{name or "frames": video for name, video in videos.items()})
    if not videos:
        raise ValueError("there is no video to show: give at least one, name -> frames.")
    step = 1 / max(max(map(len, videos.values())) - 1, 1)

    def show(position: float) -> Figure:
        """The frame nearest to a position in time."""
        row = [video[round(min(position, 1.0) * (len(video) - 1))] for video in videos.values()]
        return contact_sheet({"": torch.stack(row)}, columns=len(row), titles=list(videos), side=height / 100)

    return explore(show, position=(0.0, 1.0, step))


def explore(function: Callable[..., Any], **controls: Any) -> VBox:
    """Make sliders and buttons for the arguments of `function`; its result is shown again when one is released.

    function: returns a picture (PIL or matplotlib) or text; what it prints is shown above. Its docstring's first line
    and the values chosen are the picture's alt text. The panel's `.look` is this function, for use without a widget.
    controls: as in ipywidgets.interact, e.g. delta=(0.0, 1.0, 0.1), method=["direct", "two-level"], or a widget. A list
    becomes a row of buttons: JupyterLab keeps the arrow keys of a menu for itself. What the first call raises is the
    cell's error; what a later one raises is shown in the place of the picture. ValueError for what is no control.
    """
    # Not ipywidgets.interactive: its Output widget makes whoever executes the notebook without a browser answer the
    # kernel in the middle of a cell, and that sometimes hangs.
    knobs = {name: _knob(name, control) for name, control in controls.items()}
    view = HTML(layout={"width": "100%", "margin": "0"})  # with a margin the whole width would be too wide

    def render() -> str:
        return _render(function, {name: knob.value for name, knob in knobs.items()})

    def update(change: Any) -> None:
        try:
            view.value = render()
        except Exception as error:
            view.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    view.value = render()
    for knob in knobs.values():
        knob.observe(update, names="value")
    panel = VBox([*knobs.values(), view])
    panel.look = function
    return panel


def _knob(name: str, control: Any) -> Any:
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
    """Return what the function prints, then its picture with alt text; any other result as text."""
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
        alt = f'alt="{html.escape(f"{about} {chosen}")}" style="max-width: 100%; height: auto"'
        shown += f'<img {alt} src="{data_url(picture.getvalue())}">'
    return shown
