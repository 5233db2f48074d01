"""The studies: committed tables are fresh, and one is computed, resumed, and stale when its version changes."""

import sys
from types import ModuleType

import pytest

from experiments import studies
from experiments.studies import STUDIES, Study, compute, find_study, recompute, stale
from interp_lib.bench.tables import load_results


@pytest.mark.parametrize("name", STUDIES)
def test_the_committed_table_is_fresh_and_has_every_item(name):
    assert not stale(name)
    table, study = load_results(name), find_study(name)
    measured = set(table[list(study.items[0])].itertuples(index=False, name=None))
    assert measured <= {tuple(item.values()) for item in study.items} and study.about and table.attrs["about"]


@pytest.fixture
def echo(monkeypatch):
    """A study of four numbers that needs no model, in a module of its own."""

    def measure(model, number):
        """Doubles a number."""
        return [{"kind": "double", "value": 2 * number / 3}]

    module = ModuleType("experiments.studies.echo")
    module.echo = Study(measure, "image", [{"number": k} for k in range(4)], 1)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(studies, "STUDIES", {"echo": "echo"})
    monkeypatch.setattr(studies, "load_model", lambda kind, source: None)
    return module


def test_a_table_is_computed_resumed_and_stale_with_another_version(echo, tmp_path, monkeypatch):
    where = {"out": tmp_path / "tables", "work": tmp_path / "work"}
    path = compute("echo", **where)
    table = load_results("echo", folder=tmp_path / "tables")
    assert table.to_dict("records")[2] == {"number": 2, "kind": "double", "value": 1.33333}
    assert table.attrs["about"] == "Doubles a number." and recompute("echo", None, number=1)[0]["value"] == 0.666667
    before = path.read_bytes()
    monkeypatch.setattr(studies, "recompute", None)  # nothing is measured again
    assert compute("echo", **where).read_bytes() == before
    monkeypatch.setattr(studies, "load_results", lambda study: table)
    assert stale("echo") == ""
    echo.echo = Study(echo.echo.measure, "image", echo.echo.items, 2)
    assert "version 2" in stale("echo")
