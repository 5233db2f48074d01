import numpy as np
import pytest
import torch

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
