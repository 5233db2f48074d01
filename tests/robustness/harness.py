"""How a wrong input has to be answered, held to every row of the tables in this folder.

The exact kind of exception, one sentence that matches (what was given, and the way out), no second traceback above it,
before any network has run, within seconds, and with nothing left behind on disk.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECONDS = 6.0  # of CPU: imports and a tiny model's weights may be read, a network may not run


class Refused(Exception):
    """A command that ended with exit code 2: what it said on stderr."""


@dataclass(frozen=True)
class Row:
    """One wrong input. about: the public name first, then what is wrong. says: a regular expression of the sentence."""

    about: str
    call: Callable[[Any], Any]
    says: str
    kind: type[Exception] = ValueError

    @property
    def name(self) -> str:
        """The public name, or the command, that the row is about."""
        return self.about.partition(":")[0]


def refuse(row: Row, ground: Any) -> None:
    """Fail unless the row's call is refused as it has to be."""
    before, networks, start = listing(ground.out), ground.networks(), time.process_time()
    with no_network_runs(networks) as ran, pytest.raises(Exception) as caught:
        row.call(ground)
    spent, error = time.process_time() - start, caught.value
    sentence = str(error).removesuffix("\n")
    assert type(error) is row.kind, f"{row.about}: {type(error).__name__}: {error}"
    assert re.search(row.says, sentence), f"{row.about}: said {sentence!r}"
    assert "\n" not in sentence and 20 < len(sentence) < 1000 and "Traceback" not in sentence, sentence
    assert error.__suppress_context__ or error.__context__ is None, f"{row.about}: a second traceback above it"
    assert not ran, f"{row.about}: {ran[0]} ran before the answer"
    assert spent < SECONDS, f"{row.about}: answered after {spent:.1f} s of work"
    assert listing(ground.out) == before, f"{row.about}: left something behind"


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, and every folder."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*") if not p.is_symlink()}


@contextlib.contextmanager
def no_network_runs(networks: list[Any]) -> Iterator[list[str]]:
    """The names of the networks that run meanwhile."""
    ran: list[str] = []
    hooks = [net.register_forward_pre_hook(lambda module, _: ran.append(type(module).__name__)) for net in networks]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def shell(main: Callable[[list[str]], int], *arguments: object) -> None:
    """Run a command; Refused, with what it said, where it ends with exit code 2 and says nothing on stdout."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # of argparse
            code = stop.code
    if code == 2:
        assert out.getvalue() == "", out.getvalue()
        raise Refused(err.getvalue()) from None
    assert code == 0, f"exit code {code}: {err.getvalue()}"
