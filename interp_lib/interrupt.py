"""Ctrl-C ends a program with one line."""

from __future__ import annotations

import sys
from types import TracebackType


def expect_interrupt(said: str) -> None:
    """From here on Ctrl-C prints `said` in place of a traceback and ends this program with exit code 130.

    For the head of a module that is run with `python -m`: what it imports afterwards may take seconds.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            return sys.__excepthook__(kind, error, trace)
        print(said, file=sys.stderr)
        raise SystemExit(130)

    sys.excepthook = hook
