"""Programs that are killed at random moments until they get through, and are then compared with an unbroken run.

A program is a function of `tests.robustness.programs` that works in the current folder. It runs in a process of its own
with a process group of its own, forked from one that has the heavy imports behind it, so that kills fall on the work.
Of four kills one comes in the first second, one at the very moment of writing (a rename, the file half written), two
while it works. After every kill each file that bears its final name must be whole.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.robustness.site.sitecustomize import die_at_rename
from tests.robustness.wholeness import contents, is_temporary, torn

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).with_name("site")
PATIENCE = 1800.0  # seconds, on a machine that others keep busy
MOST = 4  # kills in one folder, then the program may end
WAYS = ("early", "writing", "working", "working")
Process = Any  # of the forkserver: multiprocessing's type for it is not public


@dataclass(frozen=True)
class Program:
    """run: what is killed. began: a pattern of files; when one of them is new the work has begun. renames: how many
    files one process writes, about. kept: a pattern of files that are written once. appears: a folder that appears as a
    whole. unbroken: what is run in its place for the results to compare with. targets: what is killed, "group",
    "leader" (the first process alone) or "below" (one that it has started)."""

    run: Callable[[], None]
    began: str
    renames: int
    kept: str = ""
    appears: str = ""
    unbroken: Callable[[], None] | None = None
    targets: tuple[str, ...] = ("group",)

    def trace(self, folder: Path) -> dict[str, int]:
        return _times(folder, self.began)


def survive(program: Program, folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Run `program` unbroken, then kill it `kills` times, in as many folders as it takes, and let it end in each: the
    same files with the same contents and nothing else, no file ever torn, nothing done twice.

    Returns how many kills fell on which moment.
    """
    chance, moments = random.Random(seed), Counter()
    span = _unbroken(program, folder / "unbroken")
    expected = contents(folder / "unbroken")
    while moments.total() < kills:
        here = folder / f"killed{moments.total()}"
        here.mkdir(exist_ok=True)
        kept: dict[str, int] = {}
        for _ in range(min(MOST, kills - moments.total())):
            moment = _strike(program, here, span, chance)
            if moment == "none":  # it got through
                break
            moments[moment] += 1
            kept |= _times(here, program.kept)
            assert not torn(here), (torn(here), said(here))
            whole = {name for name in expected if program.appears and name.startswith(program.appears)}
            assert {name for name in whole if (here / name).exists()} in (set(), whole)
        running = start(program, here)
        running.join(PATIENCE)
        assert running.exitcode == 0, said(here)
        found = contents(here)
        assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
        assert found == expected, [name for name in found if found[name] != expected[name]]
        assert _times(here, program.kept).items() >= kept.items(), "something that was done was done again"
    return moments


def _unbroken(program: Program, folder: Path) -> float:
    """Run it to its end; the seconds from the first trace of work on."""
    folder.mkdir()
    running = start(replace(program, run=program.unbroken or program.run), folder)
    _wait(program, folder, running)
    begun = time.monotonic()
    running.join(PATIENCE)
    assert running.exitcode == 0 and contents(folder), said(folder)
    return time.monotonic() - begun


def _strike(program: Program, folder: Path, span: float, chance: random.Random) -> str:
    """Start it and kill it. Returns the moment, "none" where it got through."""
    way, target, mark = chance.choice(WAYS), chance.choice(program.targets), Path(f"{folder}.mark")
    mark.unlink(missing_ok=True)
    before = _temporaries(folder)
    running = start(program, folder, die_at=chance.randint(1, program.renames) if way == "writing" else 0)
    hit = False
    if way != "writing":
        if way == "working":
            _wait(program, folder, running)
        time.sleep(chance.uniform(0, 1.0 if way == "early" else span))
        hit = _kill(running, target, chance)
    running.join(PATIENCE)
    _end_group(running.pid)
    if running.exitcode == 0:
        return "none"
    assert hit or mark.exists(), said(folder)
    if way == "writing" or _temporaries(folder) - before:
        return "writing"
    return "working" if way == "working" or program.trace(folder) else "before work"


def _temporaries(folder: Path) -> set[Path]:
    return {path for path in folder.rglob(".*") if is_temporary(path)}


def start(program: Program, folder: Path, *, die_at: int = 0) -> Process:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.robustness.programs"])
    environment = {"PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    environment["KILL_AT"] = f"{die_at} {folder}.mark" if die_at else ""
    running = context.Process(target=_enter, args=(program.run, str(folder), environment))
    running.start()
    return running


def _enter(run: Callable[[], None], folder: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ |= environment
    os.chdir(folder)
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    if environment["KILL_AT"]:
        number, _, mark = environment["KILL_AT"].partition(" ")
        die_at_rename(int(number), mark)
    run()


def said(folder: Path) -> str:
    return Path(f"{folder}.log").read_text()[-3000:]


def _wait(program: Program, folder: Path, running: Process) -> None:
    """Until the program has written something new, or has ended."""
    until, before = time.monotonic() + PATIENCE, program.trace(folder)
    while running.is_alive() and program.trace(folder) == before:
        assert time.monotonic() < until, "it has not begun: " + said(folder)
        time.sleep(0.005)


def _kill(running: Process, target: str, chance: random.Random) -> bool:
    """SIGKILL; whether there was anything to hit."""
    if not running.is_alive():
        return False
    try:
        if target == "group":
            os.killpg(running.pid, signal.SIGKILL)
        elif below := descendants(running.pid) if target == "below" else [running.pid]:
            os.kill(chance.choice(below), signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


def _end_group(group: int) -> None:
    """No process of the group may outlive its leader by more than it takes to finish what is begun."""
    until = time.monotonic() + PATIENCE / 10
    while subprocess.run(["pgrep", "-g", str(group)], capture_output=True).stdout:
        assert time.monotonic() < until, "a process of a program that was killed is still there"
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """The processes below one, at any depth."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    found = [process]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found[1:]


def _times(folder: Path, pattern: str) -> dict[str, int]:
    """When the files of a pattern were written."""
    found = {}
    for path in folder.glob(pattern) if pattern else []:
        try:
            found |= {} if is_temporary(path) else {str(path): path.stat().st_mtime_ns}
        except FileNotFoundError:
            pass  # just renamed
    return found
