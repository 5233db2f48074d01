"""What every command line of the library shares: help that teaches, and one sentence for a wrong argument."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse with defaults and examples in its help, and one sentence in place of usage lines before an error.

    examples: what follows `prog` in commands that one may type, each with a word on it.
    """

    def __init__(self, *args, examples: dict[str, str] | None = None, **options):
        super().__init__(*args, **{"formatter_class": _Help} | options)
        shown = [f"  {self.prog} {rest}  # {what}" for rest, what in (examples or {}).items()]
        self.examples, self.epilog = list(examples or {}), "\n".join(["examples:", *shown]) if shown else None

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (--help shows all options)\n")


def add_dtype(group: Any) -> None:
    """The option `--dtype`, for `read_dtype`."""
    names = ("float32", "float16", "bfloat16")
    group.add_argument("--dtype", choices=names, help="numbers of the model (default: float16 on CUDA, else float32)")


def read_dtype(name: str | None) -> Any:
    """The torch.dtype that `--dtype` names, None for none."""
    import torch

    return None if name is None else getattr(torch, name)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Each line of a text stays one, and a default is shown where there is one that the help does not name itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, False, "", []) or action.required or "default" in (action.help or "")
        return action.help if silent else super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines()
        return "\n".join(x if x.startswith(" ") else super(_Help, self)._fill_text(x, width, indent) for x in lines)
