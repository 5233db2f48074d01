import json
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from interp_lib.show.figure import contact_sheet, figure_path, flow_legend, flow_to_colour, save_figure


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_FIGURES", str(tmp_path))
    return tmp_path


def drawing() -> Figure:
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([0, 1])
    return fig


def test_a_saved_figure_knows_what_made_it(folder, monkeypatch):
    monkeypatch.setenv("INTERP_NOTEBOOK", "02_flow")
    monkeypatch.setenv("INTERP_PARAMETERS", '{"pair": "motorcycle"}')
    saved = save_figure(drawing(), "02_line", alt="Ä rising line.", title="A line", seed=3)
    assert saved.path == folder / "02_line.png"
    texts = Image.open(saved).text
    assert texts["Title"] == "A line" and texts["Description"] == "Ä rising line." and texts["Notebook"] == "02_flow"
    assert json.loads(texts["Parameters"]) == {"pair": "motorcycle", "seed": 3}
    assert len(texts["Content"]) == len(texts["Library"]) == 64


def test_a_saved_figure_does_not_say_where_your_files_are(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_PARAMETERS", json.dumps({"pair": str(tmp_path / "photos"), "model": "owner/name"}))
    saved = save_figure(drawing(), "a", alt="A line.", folder=tmp_path / "clips", flow=tmp_path.name)
    parameters = json.loads(Image.open(saved).text["Parameters"])
    assert parameters == {"pair": "photos", "model": "owner/name", "folder": "clips", "flow": tmp_path.name}
    assert str(tmp_path).encode() not in saved.path.read_bytes()


def test_same_figure_same_bytes_and_another_picture_another_hash():
    one, same = (save_figure(drawing(), "a", alt="A line.").path.read_bytes() for _ in range(2))
    fig, content = drawing(), Image.open(figure_path("a.png")).text["Content"]
    fig.axes[0].plot([1, 0])
    assert one == same and Image.open(save_figure(fig, "b", alt="A line.")).text["Content"] != content


def test_a_notebook_shows_it_small_and_with_alt_text():
    fig = Figure(figsize=(4, 4))
    fig.subplots().imshow(np.random.default_rng(0).random((200, 200, 3)))
    saved = save_figure(fig, "noise", alt="Noise.")
    data, metadata = saved._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == "Noise."
    assert len(data["image/png"]) * 3 / 4 < saved.path.stat().st_size


def test_figures_go_beside_pyproject_without_the_runner(tmp_path, monkeypatch):
    monkeypatch.delenv("INTERP_FIGURES")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert figure_path("a.png") == tmp_path / "figures" / "a.png" and (tmp_path / "figures").is_dir()


def test_contact_sheet_shows_both_ends_and_labels():
    frames = torch.linspace(0, 1, 33)[:, None, None, None].expand(33, 3, 4, 6)
    fig = contact_sheet({"ours": frames, "dissolve": frames.flip(0)}, columns=5)
    assert len(fig.axes) == 10
    shown = [float(axes.images[0].get_array().mean()) for axes in fig.axes]
    assert shown == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0])
    assert [axes.get_title() for axes in fig.axes[:5]] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert fig.axes[0].get_ylabel() == "ours" and fig.axes[5].get_ylabel() == "dissolve"


def reference_colour(dx: float, dy: float) -> list[float]:
    """Baker et al.'s reference code for one vector, in plain Python."""
    red, yellow, green, cyan, blue, magenta = (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)
    corners, wheel = (red, yellow, green, cyan, blue, magenta, red), []
    for count, start, end in zip((15, 6, 4, 11, 13, 6), corners[:-1], corners[1:], strict=True):
        wheel += [[a + (b - a) * i / count for a, b in zip(start, end, strict=True)] for i in range(count)]
    length = math.hypot(dx, dy)
    position = (math.atan2(-dy, -dx) / math.pi + 1) / 2 * (len(wheel) - 1)
    low = int(position)
    colours = zip(wheel[low], wheel[(low + 1) % len(wheel)], strict=True)
    mixed = [(1 - (position - low)) * a + (position - low) * b for a, b in colours]
    return [1 - length * (1 - c) if length <= 1 else 0.75 * c for c in mixed]


def test_flow_colours_are_middleburys():
    flow = torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    colours = flow_to_colour(flow, largest=1.0)
    for y in range(9):
        for x in range(11):
            expected = reference_colour(float(flow[0, y, x]), float(flow[1, y, x]))
            assert colours[:, y, x].tolist() == pytest.approx(expected, abs=1e-4)


def test_flow_colours_of_rest_unknown_and_the_longest():
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, :, 0, 1] = torch.nan
    flow[0, 0, 1, 1] = 8.0
    colours = flow_to_colour(flow)
    assert colours.shape == (1, 3, 2, 2)
    assert colours[0, :, 0, 0].tolist() == [1, 1, 1] and colours[0, :, 0, 1].tolist() == [0, 0, 0]
    assert colours[0, :, 1, 1].tolist() == pytest.approx([1, 0, 0], abs=1e-4)  # to the right, fully saturated: red
    assert torch.equal(flow_to_colour(flow[0]), colours[0])


def test_the_legend_shows_the_colour_of_each_direction():
    axes = Figure().subplots()
    flow_legend(axes, largest=12.0)
    wheel = axes.images[0].get_array()
    for dx, dy in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)):
        expected = flow_to_colour(torch.tensor([dx, dy])[:, None, None]).flatten().tolist()
        assert wheel[round(50 + 50 * dy), round(50 + 50 * dx)].tolist() == pytest.approx(expected, abs=1e-6)
    assert "12" in axes.get_xlabel()
