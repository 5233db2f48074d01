import nbformat
import numpy as np
import pytest
import torch
from ipywidgets import Dropdown, ToggleButtons
from matplotlib.figure import Figure
from nbclient import NotebookClient

from interp_lib.show.widgets import explore, frame_at, frame_slider

FRAMES = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, 8, 12)


@pytest.mark.parametrize("position, value", [(0, 0), (0.25, 64), (0.3, 64), (1, 255)])
def test_frame_at_is_the_nearest_frame(position, value):
    image = frame_at(FRAMES, position, height=16)
    assert image.size == (24, 16) and np.unique(np.asarray(image)).tolist() == [value]


def test_the_frame_slider_stops_at_every_frame_of_every_video():
    panel = frame_slider({"short": FRAMES[:3], "long": FRAMES})
    slider, view = panel.children
    assert (slider.min, slider.max) == (0, 1) and slider.step == pytest.approx(0.25)
    before = view.value
    slider.value = 1.0
    assert view.value != before
    left, right = panel.look(1.0).axes
    assert [float(axes.images[0].get_array().mean()) for axes in (left, right)] == pytest.approx([0.5, 1])
    assert (left.get_title(), right.get_title()) == ("short", "long")
    with pytest.raises(ValueError, match="no video to show"):
        frame_slider({})


def test_a_reader_sees_the_picture_and_sees_it_change():
    calls = []

    def look(position):
        """A frame."""
        calls.append(position)
        print("at", position)
        return frame_at(FRAMES, position)

    slider, view = explore(look, position=(0.0, 1.0, 0.25)).children
    before = view.value
    assert "<pre>at 0.5</pre>" in before and 'alt="A frame. position 0.5"' in before and "data:image/png" in before
    slider.value = 1.0
    assert "<pre>at 1.0</pre>" in view.value and view.value.split("base64,")[1] != before.split("base64,")[1]
    assert calls == [0.5, 1.0] and not slider.continuous_update


def test_figures_text_and_later_errors_are_shown():
    panel = explore(lambda kind: {"figure": Figure(), "text": "a < b", "bad": None}[kind], kind=["figure", "text"])
    assert "data:image/png" in panel.children[1].value
    panel.children[0].value = "text"
    assert panel.children[1].value == "<pre>a &lt; b</pre>"
    failing = explore(lambda x: 1 / x, x=[1, 0])
    failing.children[0].value = 0
    assert "ZeroDivisionError: division by zero" in failing.children[1].value
    with pytest.raises(ZeroDivisionError):  # the first call is a part of the cell
        explore(lambda x: 1 / 0, x=(0, 1))


def test_a_list_becomes_buttons_and_a_widget_stays_what_it_is():
    menu = Dropdown(options=["x", "y"])
    buttons, own, _ = explore(lambda a, b: f"{a} {b}", a=[("one", 1), ("two", 2)], b=menu).children
    assert isinstance(buttons, ToggleButtons) and buttons.options == (("one", 1), ("two", 2)) and buttons.value == 1
    assert own is menu


def test_a_notebook_with_a_control_runs_without_a_browser():
    cells = ["from interp_lib.show import explore", 'panel = explore(lambda p: f"p = {p}", p=(0, 4)); panel']
    cells += ["panel.children[0].value = 1; print(panel.children[1].value)"]
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    NotebookClient(notebook, timeout=120).execute()
    assert notebook.cells[2].outputs[0].text == "<pre>p = 1</pre>\n"
