"""The table of what `make bench` measured: a column a file, and the page that holds it."""

import json
from pathlib import Path

import pytest

from interp_lib.bench.page import put
from interp_lib.bench.speed import measured

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {"size": 64, "frames": 8, "video_size": [64, 96], "video_frames": 14, "steps": 4, "threads": 2}
EMBEDDED = ABOUT | {"model": "embedded", "video_model": "embedded"}


def test_a_column_a_file_and_an_empty_cell_for_what_was_not_measured():
    dual = {"overhead": 0.9876, "memory_mib": {"as it comes": 512.4, "two networks": 803.0}}
    large = {"about": ABOUT | {"model": "x/sd15", "video_model": "x/svd"}, "dual": dual}
    small = {"about": EMBEDDED, "flow": {"faster": 361.2, "memory_mib": {"0": 20.0}}}
    lines = measured.report([large, small]).splitlines()
    titles = ("svd: 64x96 px, 14 frames, steps: 4, threads: 2", "embedded: 64 px, 8 frames, steps: 4, threads: 2")
    assert lines[0] == f"|  | {titles[0]} | {titles[1]} |"
    assert "| `dual`: inbetween over the bare U-Net calls it needs | 0.9876 |  |" in lines
    assert "| `flow`: times faster than a loop over positions |  | 361.2 |" in lines
    assert "| `dual`: MiB at the highest, two networks | 803 |  |" in lines
    assert not any(line.endswith("|  |  |") for line in lines)


def test_the_page_has_what_was_measured():
    files = sorted(measured.FOLDER.glob("*.json"))
    assert files
    page = (ROOT / "docs" / "gpu.md").read_text()
    text = measured.report([json.loads(path.read_text()) for path in files])
    assert put(page, text, measured.COMMAND) == page


@pytest.mark.parametrize(
    ("content", "words"), [("{", "line 1 column 2"), ('{"flow": {}}', "no result of `make bench`")]
)
def test_one_sentence_for_what_is_no_result(tmp_path, capsys, content, words):
    (tmp_path / "a.json").write_text(content)
    assert measured.main([str(tmp_path / "a.json")]) == 2
    said = capsys.readouterr().err
    assert words in said and str(tmp_path / "a.json") in said and len(said.splitlines()) == 1
