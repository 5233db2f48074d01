"""Files are written whole or not at all; what a killed process leaves is removed, what a living one writes is not."""

import os
import subprocess
import sys

import pytest

from interp_lib.files import atomic_write, remove_stale_temporaries


def test_a_body_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


def left_by(name: str, process: int | str) -> str:
    """What `atomic_write` would have called the temporary of this process."""
    with atomic_write(name) as temporary:
        temporary.touch()
        return temporary.name.replace(f".{os.getpid()}.", f".{process}.")


@pytest.fixture
def gone(tmp_path, monkeypatch):
    """The number of a process that has ended."""
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_the_temporaries_of_dead_processes_are_swept(tmp_path, gone):
    dead, living = (left_by("a.json", gone), left_by("b", gone)), left_by("c.json", os.getpid())
    elsewhere = dead[0].replace(f".{gone}.", f"-2.{gone}.")  # of a process of another machine, which may well run
    kept = [living, elsewhere, ".d.tmp.json", "e.tmp", "a.json", "b", "c.json"]
    for name in (*dead, *kept):
        (tmp_path / name).touch()
    remove_stale_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_writing_a_file_again_removes_what_a_killed_process_left_of_it(tmp_path, gone):
    ours, other = (tmp_path / left_by(name, gone) for name in ("a[1].json", "b.json"))
    ours.touch(), other.touch()
    with atomic_write(tmp_path / "a[1].json") as temporary:
        temporary.touch()
    assert sorted(os.listdir(tmp_path)) == sorted(["a[1].json", "b.json", other.name])
