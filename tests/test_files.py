"""Files are written whole or not at all; what a killed process leaves is removed, what a living one writes is not."""

import os
import subprocess
import sys

import pytest

from interp_lib.files import sweep, whole


def test_a_body_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]
    with whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


def test_only_the_temporaries_of_dead_processes_are_swept(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f".a.{gone.pid}.tmp.json", f".b.{gone.pid}.tmp", f".c.{os.getpid()}.tmp.json", ".d.tmp.json", "e.tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([f".c.{os.getpid()}.tmp.json", ".d.tmp.json", "e.tmp"])
