import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from interp_lib.show.widgets import explore, frame_at, frame_slider

FRAMES = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, 4, 6)


@pytest.mark.parametrize("position, value", [(0, 0), (0.25, 64), (0.3, 64), (1, 255)])
def test_frame_at_is_the_nearest_frame(position, value):
    image = frame_at(FRAMES, position, height=8)
    assert image.size == (12, 8) and np.unique(np.asarray(image)).tolist() == [value]


def test_frame_at_refuses_other_times():
    with pytest.raises(ValueError, match="between 0 and 1"):
        frame_at(FRAMES, 1.1)


def test_explore_calls_once_with_the_first_values_and_again_on_a_change():
    calls = []
    panel = explore(lambda delta, method: calls.append((delta, method)), delta=(0.0, 1.0, 0.5), method=["a", "b"])
    assert calls == [(0.5, "a")]
    assert not panel.children[0].continuous_update


def test_errors_of_the_function_are_the_cells_errors():
    with pytest.raises(ZeroDivisionError):
        explore(lambda x: 1 / 0, x=(0, 1))


def test_every_stop_of_the_frame_slider_is_a_frame():
    slider = frame_slider(FRAMES).children[0]
    assert (slider.min, slider.max) == (0, 1) and slider.step == pytest.approx(0.25)


def test_a_reader_sees_the_picture_and_sees_it_change():
    """In a real kernel: what the panel's output area holds before and after a slider is moved."""
    cells = [
        "import torch; from interp_lib import explore, frame_at; frames = torch.linspace(0, 1, 5)[:, None, None, None]",
        "panel = explore(lambda p: frame_at(frames.expand(5, 3, 4, 6), p), p=(0.0, 1.0, 0.25)); panel",
        "panel.children[0].value = 1.0",
    ]
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    seen = []
    for count in (2, 3):
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells[:count]]
        NotebookClient(notebook, timeout=120, store_widget_state=True).execute()
        states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
        outputs = [out for state in states for out in state["state"].get("outputs", [])]
        seen.append([out["data"]["image/png"] for out in outputs])
    assert [len(pictures) for pictures in seen] == [1, 1] and seen[0] != seen[1]
