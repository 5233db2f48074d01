"""The ground under every row: the shared inputs, and a folder of the row's own to write into."""

import pytest

from tests.robustness.harness import Ground, make_files


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def ground(files, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Ground(files, tmp_path / "out")
