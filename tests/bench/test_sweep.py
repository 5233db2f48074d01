"""A sweep resumes, writes every result whole, and gives the same results with any number of processes."""

import json
import os

import pytest
import torch

from interp_lib.bench.sweep import sweep


def measure(number, folder, fail=()):
    with open(folder / "measured", "a") as log:
        log.write(f"{number} ")
    if number in fail and not (folder / "repaired").exists():
        raise RuntimeError("interrupted")
    return [{"number": number, "third": number / 3, "threads": torch.get_num_threads(), "process": os.getpid()}]


def die(number):
    os._exit(9)


def items(count, folder, **options):
    return {f"item{k}": (k, folder, *options.values()) for k in range(count)}


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    with pytest.raises(RuntimeError, match="interrupted"):
        sweep(measure, items(4, tmp_path, fail=(2,)), tmp_path / "items", progress=False)
    assert sorted(path.name for path in (tmp_path / "items").iterdir()) == ["item0.json", "item1.json"]
    (tmp_path / "repaired").touch()
    results = sweep(measure, items(4, tmp_path, fail=(2,)), tmp_path / "items", progress=False)
    assert [rows[0]["number"] for rows in results] == [0, 1, 2, 3]
    assert (tmp_path / "measured").read_text().split() == ["0", "1", "2", "2", "3"]  # no finished item twice
    assert json.loads((tmp_path / "items" / "item3.json").read_text()) == results[3]


def test_one_process_measures_in_one_thread_and_restores_the_number(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ((row,),) = sweep(measure, items(1, tmp_path), tmp_path / "items", progress=False)
        assert row["threads"] == 1 and row["process"] == os.getpid() and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.long
def test_processes_give_the_same_results(tmp_path):
    results = sweep(measure, items(3, tmp_path), tmp_path / "items", workers=2, progress=False)
    assert [row["third"] for (row,) in results] == [k / 3 for k in range(3)]
    assert all(row["threads"] == 1 and row["process"] != os.getpid() for (row,) in results)


@pytest.mark.long
def test_a_worker_that_dies_is_one_sentence(tmp_path):
    with pytest.raises(RuntimeError, match="one of 2 worker processes died, perhaps for lack of memory"):
        sweep(die, {"a": (1,), "b": (2,)}, tmp_path, workers=2, progress=False)
