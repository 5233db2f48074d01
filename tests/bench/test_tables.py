"""The tables of the repository: found while they are what the code makes, refused afterwards."""

import json

import pytest

from interp_lib.bench import tables
from interp_lib.bench.results import Results


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(
        tables.TABLES, "small", tables.Table("two", ["truth", "shuffled"], "world-bench:2", 2, ("psnr",))
    )


def test_what_was_published_is_loaded_in_the_order_of_the_items(small, tmp_path):
    rows = [{"method": m, "case": c} for m in ("truth", "shuffled") for c in ("world:0", "world:1")]
    tables.publish("small", Results("two", rows), {}, folder=tmp_path)
    assert (
        tables.load_table("small", folder=tmp_path).rows == rows
        and tables.load_distances("small", folder=tmp_path) == {}
    )


def test_a_row_that_another_version_made_is_refused_by_name(small, tmp_path):
    rows = [{"method": m} for m in ("truth", "truth", "shuffled", "shuffled")]
    path = tables.publish("small", Results("two", rows), {}, folder=tmp_path)
    content = json.loads(path.read_text())
    content["rows"].pop(next(k for k, row in content["rows"].items() if row["method"] == "shuffled"))
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"another version or weights \(shuffled\): run `python -m interp_lib"):
        tables.load_table("small", folder=tmp_path)


def test_a_table_that_is_not_there_names_the_command(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="bench.tables small"):
        tables.load_table("small", folder=tmp_path)
    with pytest.raises(ValueError, match="there is no table 'none'"):
        tables.load_table("none")


def test_the_command_prints_and_keeps_other_cases_out_of_the_repository(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "publish", lambda *given, **options: pytest.fail("this is not the repository's table"))
    arguments = ["interpolation", "--methods", "truth", "cross-dissolve", "--cases", "world-bench:2", "--workers", "1"]
    assert tables.main([*arguments, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "cross-dissolve" in printed and (tmp_path / "interpolation" / "table.csv").is_file()
    assert tables.main(["ablation", "--methods", "nothing", "--out", str(tmp_path)]) == 2
