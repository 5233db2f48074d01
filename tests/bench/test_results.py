"""Tables of sweeps: fresh ones are read, stale ones refused, and an interrupted run goes on where it was."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interp_lib.bench.results import Results, load_results, studies

ROOT = Path(__file__).resolve().parents[2]
STUDY = '''"""Doubles a number."""

import os

from interp_lib.checks import check_int

VERSION = 1
ITEMS = [{"number": k} for k in range(4)]


def measure(model, *, number):
    with open("measured", "a") as log:
        log.write(f"{number} ")
    if number == 2 and os.environ.get("FAIL"):
        raise RuntimeError("interrupted")
    return [{"kind": "double", "value": 2.0 * check_int("number", number, 0) / 3}]
'''


@pytest.mark.parametrize("study", studies())
def test_the_committed_table_is_fresh(study):
    table = load_results(study)
    assert table.rows and table.about


def test_where_and_column_choose_rows():
    table = Results("", [{"a": 1, "b": 2.0}, {"a": 2, "b": 3.0}, {"a": 1, "b": 4.0}])
    assert table.column("b", a=1) == [2.0, 4.0]
    assert table.where(a=2) == [{"a": 2, "b": 3.0}] and table.where(a=3) == []


def test_a_study_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="no study 'nothing'"):
        load_results("nothing")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the library with one more study, and the weights."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "interp_lib", folder / "interp_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data" / "models", folder / "data" / "models")
    shutil.copytree(ROOT / "data" / "photographs", folder / "data" / "photographs")
    (folder / "interp_lib" / "bench" / "studies" / "echo.py").write_text(STUDY)
    return folder


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(folder), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True)


def renew(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    return python(folder, "-m", "interp_lib.bench.results", "echo", "--workers", "1", **environment)


def load(folder: Path) -> subprocess.CompletedProcess:
    return python(folder, "-c", "from interp_lib import load_results; print(load_results('echo').rows)")


@pytest.mark.long
def test_a_table_is_made_resumed_read_and_refused_when_stale(house):
    assert "has not been computed: run `python -m interp_lib.bench.results echo`" in load(house).stderr

    assert renew(house, FAIL="1").returncode != 0
    assert not (house / "data" / "results" / "echo.json").exists()
    done = renew(house)
    assert done.returncode == 0, done.stderr
    measured = (house / "measured").read_text().split()
    assert [measured.count(k) for k in "012"] == [1, 1, 2]  # nothing that was whole is measured again

    table = json.loads((house / "data" / "results" / "echo.json").read_text())
    assert table["columns"] == ["number", "kind", "value"] and table["about"] == "Doubles a number."
    assert table["rows"] == [[k, "double", pytest.approx(2 * k / 3, abs=1e-5)] for k in range(4)]
    assert "'value': 0.666667" in load(house).stdout
    assert "fresh" in renew(house).stdout

    study = house / "interp_lib" / "bench" / "studies" / "echo.py"
    study.write_text(STUDY.replace("VERSION = 1", "VERSION = 2"))
    assert "was made with other version: run `python -m interp_lib.bench.results echo`" in load(house).stderr
    study.write_text(STUDY)
    assert load(house).returncode == 0
    config = house / "data" / "models" / "image" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + " ")
    assert "was made with other weights" in load(house).stderr
