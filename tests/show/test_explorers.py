"""Explorers on a pair of one's own: what they say is checked by plain reckoning, and every control does something."""

import re
from pathlib import Path

import pytest
import torch

from interp_lib import load_image_model, load_video_model, render_pair, rotate_map
from interp_lib.show import (
    explore_attention,
    explore_correspondence,
    explore_fusion,
    explore_temporal_maps,
    frame_at,
    frame_slider,
)
from interp_lib.show.explorers_video import ahead

CONFORMANCE = Path(__file__).parents[1] / "conformance"


@pytest.fixture(scope="module")
def pair():
    return render_pair(3, size=64)


@pytest.fixture(scope="module")
def image_model():
    return load_image_model(str(CONFORMANCE / "dreammover" / "tiny_sd"), device="cpu")


@pytest.fixture(scope="module")
def panels(image_model, pair):
    video = load_video_model(str(CONFORMANCE / "inbetween" / "tiny_svd"), device="cpu")
    return {
        "correspondence": explore_correspondence(image_model, pair),
        "fusion": explore_fusion(image_model, pair, inversion_steps=4),
        "attention": explore_attention(image_model, pair, inversion_steps=4),
        "temporal maps": explore_temporal_maps(video, pair, steps=1),
    }


NAMES = ["correspondence", "fusion", "attention", "temporal maps"]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_control_changes_what_is_seen_or_said(panels, name):
    *knobs, view = panels[name].children
    for knob in knobs:
        before, values = view.value, _values(knob)
        for value in values:
            knob.value = value
        assert "Error" not in view.value
        assert view.value != before, f"{knob.description} changes nothing"


def _values(knob):
    """Two other values at least, the last of them not the first's."""
    if hasattr(knob, "options"):
        return [knob.options[-1]]
    return [not knob.value] if isinstance(knob.value, bool) else [knob.min, knob.max - 2 * knob.step]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_without_a_widget_and_its_words(panels, name, capsys):
    *knobs, view = panels[name].children
    figure = panels[name].look(**{knob.description: knob.value for knob in knobs})
    assert len(figure.axes) >= 3
    said = capsys.readouterr().out.strip()
    assert re.search(r"\d", said) and said in view.value.replace("&#x27;", "'")
    assert re.search(r'<img alt="[^"]{20,}"', view.value)


def test_an_image_corresponds_to_itself(image_model, pair, capsys):
    pair = render_pair(3, size=64)
    pair.image1, pair.flow01, pair.flow10 = pair.image0, None, None
    explore_correspondence(image_model, pair).look(across=0.3, down=0.7, direction="first to last")
    start, end = re.findall(r"the point (\d+ % from the left, \d+ % from the top)", capsys.readouterr().out)
    assert start == end


def test_attention_is_shared_out_whole(panels, capsys):
    panel = panels["attention"]
    panel.look(across=0.5, down=0.5, layer=panel.children[2].options[0])
    shares = [int(x) for x in re.findall(r"(\d+) % on image", capsys.readouterr().out)]
    assert len(shares) == 2 and 99 <= sum(shares) <= 101


def test_rotating_a_map_reverses_its_direction():
    a = torch.rand(6, 6).softmax(-1)
    slow = sum(float(a[j, k]) * (k - j) for j in range(6) for k in range(6)) / 6
    assert ahead(a) == pytest.approx(slow, abs=1e-5) and ahead(rotate_map(a)) == pytest.approx(-slow, abs=1e-5)


def test_videos_side_by_side():
    dark, light = torch.zeros(3, 3, 8, 8), torch.ones(5, 3, 8, 8)
    light[-1, 1:] = 0  # its last frame is red
    sheet = frame_at({"dark": dark, "a light one": light}, 1.0, height=64)
    assert sheet.getpixel((5, sheet.height - 5)) == (0, 0, 0)
    assert sheet.getpixel((80, sheet.height - 5)) == (255, 0, 0) and sheet.width >= 136
    slider, view = frame_slider({"dark": dark, "a light one": light}).children
    before = view.value
    slider.value = 1.0
    assert slider.step == pytest.approx(0.25) and view.value != before
    with pytest.raises(ValueError, match="no video to show"):
        frame_at({}, 0.0)
