"""What the runner, the stamps and the tests read in a notebook: its parameters and its code."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from interp_lib.files import atomic_write


def read_notebook(path: str | Path) -> NotebookNode:
    """The notebook at `path`. Raises FileNotFoundError or ValueError when there is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such notebook")
    try:
        return nbformat.read(path, as_version=4)
    except Exception:  # what a file that is none sets off in nbformat is not foreseeable
        raise ValueError(f"{path}: not a Jupyter notebook") from None


def write_notebook(notebook: NotebookNode, path: str | Path) -> None:
    """Write the whole notebook or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def code_hash(notebook: NotebookNode) -> str:
    """A hash of the code and its tags; prose, outputs and counts do not matter to a result."""
    code = [[cell.source, tags(cell)] for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def read_parameters(notebook: NotebookNode, name: str = "notebook") -> dict[str, Any]:
    """Names and defaults of the cell tagged `parameters`: assignments of flat literals and nothing else."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"{name}: {len(cells)} cells are tagged `parameters`, there must be exactly one")
    defaults: dict[str, Any] = {}
    for line in ast.parse(cells[0].source).body:
        try:
            (target,) = line.targets
            defaults[target.id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError):
            said = ast.unparse(line)
            raise ValueError(f"{name}: `{said}` in the parameters cell is no `name = literal`") from None
        if not isinstance(defaults[target.id], str | int | float | bool | None):
            raise ValueError(f"{name}: parameter {target.id} must be a flat literal (text, number, True, False, None)")
    return defaults


def parse_parameters(given: list[str], defaults: dict[str, Any], *, lenient: bool = False) -> dict[str, Any]:
    """Values for `name=value` texts, each of its default's type; an unknown name is a ValueError.

    A text that names an existing file or folder becomes absolute, since notebooks run in their own folder.
    One that can only be a path (/x, ./x, ../x, ~/x) and does not exist is a FileNotFoundError.
    `lenient` leaves out names this notebook lacks: `make` has checked that some notebook has them.
    """
    values: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals:
            raise ValueError(f"parameter {item!r} must read name=value")
        if name in defaults:
            values[name] = _value(name, text, defaults[name])
            if name == "pair":
                from interp_lib.pairs.load import check_source  # only here: it brings torch

                check_source(values[name])
        elif not lenient:
            raise ValueError(f"unknown parameter {name!r}: there are {', '.join(defaults) or 'none'}")
    return values


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        path = Path(os.path.expanduser(text))
        if text and path.exists():
            return str(path.resolve())
        if text.startswith(("/", "./", "../", "~")):
            raise FileNotFoundError(f"parameter {name}: {text} does not exist")
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"parameter {name} must be finite, not {text!r}")
    if default is None or type(value) is type(default) or (isinstance(default, float) and type(value) is int):
        return value
    raise ValueError(
        f"parameter {name} must be of type {type(default).__name__} like its default {default!r}, not {text[:100]!r}"
    )
