"""The studies: committed tables are fresh, and one is computed, resumed, and stale when its version changes."""

import sys
from types import ModuleType

import pytest

import experiments.studies as studies
from experiments.studies import STUDIES, __main__, compute, find_study, recompute, stale
from interp_lib.bench.tables import load_results


@pytest.mark.parametrize("study", STUDIES)
def test_the_committed_table_is_fresh_and_has_every_item(study):
    assert not stale(study)
    table, items = load_results(study), find_study(study).ITEMS
    measured = set(table[list(items[0])].itertuples(index=False, name=None))
    assert measured <= {tuple(item.values()) for item in items} and table.attrs["about"]


@pytest.fixture
def echo(monkeypatch):
    """A study of four numbers that needs no model."""
    module = ModuleType("experiments.studies.echo", "Doubles a number.")
    module.VERSION, module.MODEL, module.ITEMS = 1, "image", [{"number": k} for k in range(4)]
    module.measure = lambda model, number: [{"kind": "double", "value": 2 * number / 3}]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(studies, "STUDIES", ("echo",))
    monkeypatch.setattr(studies, "load_model", lambda kind, source: None)
    return module


def test_a_table_is_computed_resumed_and_stale_with_another_version(echo, tmp_path, monkeypatch):
    where = {"out": tmp_path / "tables", "work": tmp_path / "work"}
    path = compute("echo", **where)
    table = load_results("echo", folder=tmp_path / "tables")
    assert table.to_dict("records")[2] == {"number": 2, "kind": "double", "value": 1.33333}
    assert table.attrs["about"] == "Doubles a number." and recompute("echo", None, number=1)[0]["value"] == 0.666667
    before = path.read_bytes()
    echo.measure = None  # nothing is measured again
    assert compute("echo", **where).read_bytes() == before
    monkeypatch.setattr(studies, "load_results", lambda study: table)
    assert stale("echo") == ""
    echo.VERSION = 2
    assert "version 2" in stale("echo")


def test_a_study_that_does_not_exist_is_named(capsys):
    with pytest.raises(ValueError, match="there is no study '..results': there are ablations"):
        recompute("..results", None)
    assert __main__.main(["nothing", "--model", "x"]) == 2 and "no study 'nothing'" in capsys.readouterr().err
