"""Tables in a page of the documentation: what stands between two marks is written by a command, never by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from interp_lib.files import atomic_write

END = "<!-- end of what is written -->"


def begin(command: str) -> str:
    return f"<!-- written by python -m {command} -->"


def put(page: str, text: str, command: str) -> str:
    """A page with the text between the two marks of a command; ValueError where it has none."""
    before, mark, rest = page.partition(begin(command))
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the page has no place for the tables: it needs the lines {begin(command)} and {END}.")
    return f"{before}{mark}\n\n{text}\n{end}{after}"


def write(path: Path, text: str, command: str) -> None:
    """`put` into a file."""
    page = put(path.read_text(encoding="utf-8"), text, command)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def run(report: Callable[[], str], path: Path | None, command: str) -> int:
    """What a command of tables does: prints them, writes them into a page where one is named; its exit status."""
    try:
        text = report()
        print(text)
        if path:
            write(path, text, command)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]
