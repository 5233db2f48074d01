"""The papers' tables: committed ones are fresh, a complete run is published, other runs stay out of data/results."""

import pytest

from experiments.studies import tables
from interp_lib.bench.benchmark import benchmark
from interp_lib.bench.tables import load_distances, load_table


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_committed_table_is_fresh_and_complete(name):
    declared, table = tables.TABLES[name], load_table(name)
    assert {part: table.attrs[part] for part in declared.depends_on()} == declared.depends_on()
    assert list(table["method"].unique()) == declared.methods and set(table["status"]) == {"ok"}
    assert set(load_distances(name)["efficientnet-lite0"]) == set(declared.methods)


def test_what_is_published_is_what_was_measured(tmp_path, monkeypatch):
    small = tables.Table("two", ["truth", "cross-dissolve"], "world-bench:2", 2, ("psnr",))
    monkeypatch.setitem(tables.TABLES, "small", small)
    result = benchmark(small.methods, small.cases, tmp_path / "out", frames=2, progress=False)
    tables.publish("small", result, {"net": {}}, folder=tmp_path)
    table = load_table("small", folder=tmp_path)
    assert table["psnr"].tolist() == result["psnr"].tolist() and table.attrs["settings"]["frames"] == 2
    assert load_distances("small", folder=tmp_path) == {"net": {}} and "seconds" not in table


def test_the_command_prints_and_keeps_other_cases_out_of_the_repository(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "publish", lambda *given, **options: pytest.fail("this is not the committed table"))
    arguments = ["interpolation", "--methods", "truth", "cross-dissolve", "--cases", "world-bench:2", "--workers", "1"]
    assert tables.main([*arguments, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "cross-dissolve" in printed and (tmp_path / "interpolation" / "table.csv").is_file()
