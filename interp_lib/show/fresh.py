"""Which notebooks are stale, and how executed ones become the committed ones.

`stamp` writes build/NAME.stamp, a hash of everything a notebook's results depend on, and leaves it alone when nothing
has changed, so that `make` may compare times. `publish` copies the outputs of build/NAME.ipynb into the committed
notebook, without what differs from run to run: timings, widget state, the runner's notes.
"""

from __future__ import annotations

if __name__ == "__main__":
    from interp_lib.interrupt import expect_interrupt

    expect_interrupt("interp_lib.show.fresh: interrupted")

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat

from interp_lib.cli_help import Parser
from interp_lib.show.notebook import (
    code_cells,
    code_hash,
    parse_parameters,
    read_notebook,
    read_parameters,
    tags,
    write_notebook,
)
from interp_lib.show.provenance import library_hash
from interp_lib.show.run import file_hash

WIDGET = "application/vnd.jupyter.widget-view+json"


def write_stamps(sources: list[Path], folder: Path, given: list[str], *, figures: Path = Path("figures")) -> None:
    """Write the stamp of every stale notebook.

    Raises ValueError when no notebook has a given parameter, and for a pair that is known not to exist.
    """
    defaults = {source: read_parameters(read_notebook(source), str(source)) for source in sources}
    everywhere = {name for names in defaults.values() for name in names}
    for item in given:
        if item.partition("=")[0] not in everywhere:
            raise ValueError(
                f"unknown parameter {item!r}: no notebook has it; there are {', '.join(sorted(everywhere))}"
            )
    library = library_hash()
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        values = parse_parameters(given, defaults[source], lenient=True)
        inputs = [library, code_hash(read_notebook(source)), values, [_listing(value) for value in values.values()]]
        content = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest() + "\n"
        stamp = folder / f"{source.stem}.stamp"
        if not stamp.exists() or stamp.read_text() != content or _altered(folder / source.name, figures):
            stamp.write_text(content)


def _listing(value: Any) -> list[list[str | int]]:
    """Files behind a parameter that is a path, with sizes and times: new pictures in a folder are a new input."""
    if not isinstance(value, str) or not os.path.isabs(value):
        return []
    files = [Path(value)] if Path(value).is_file() else sorted(p for p in Path(value).rglob("*") if p.is_file())
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _altered(executed: Path, figures: Path) -> bool:
    """Whether a figure is no longer what the executed notebook made (a missing one is make's business)."""
    if not executed.exists():
        return False
    made = read_notebook(executed).metadata.get("interp", {}).get("figures", {})
    return any((figures / name).exists() and file_hash(figures / name) != known for name, known in made.items())


def publish(source: Path, executed: Path) -> bool:
    """Copy outputs of `executed` into `source`; says whether that changed the file.

    Raises ValueError when the two differ in code.
    """
    before, notebook, done = source.read_text(encoding="utf-8"), read_notebook(source), read_notebook(executed)
    if code_hash(notebook) != code_hash(done):
        raise ValueError(f"{executed} is not {source} run with its defaults: run `make figures` first")
    for cell, ran in zip(code_cells(notebook), code_cells(done), strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    tidy(notebook)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["interp"] = {"code": code_hash(notebook)}
    if nbformat.writes(notebook) + "\n" == before:
        return False
    write_notebook(notebook, source)
    return True


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Remove what a run leaves that no reader needs: timings, widget state, empty tags."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not tags(cell):
            cell.metadata.pop("tags", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)


def make_parser() -> Parser:
    parser = Parser(prog="python -m interp_lib.show.fresh", description="Stale and committed notebooks.")
    actions = parser.add_subparsers(dest="action", required=True)
    stamp = actions.add_parser(
        "stamp",
        help="write build/NAME.stamp where something has changed",
        examples={"notebooks/*.ipynb -p pair=motorcycle": "what `make figures PAIR=motorcycle` does first"},
    )
    stamp.add_argument("--into", type=Path, default=Path("build"), help="folder of the stamps")
    stamp.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    copy = actions.add_parser(
        "publish",
        help="copy outputs from the executed notebooks into the committed ones",
        examples={"notebooks/*.ipynb": "what `make notebooks` does last"},
    )
    copy.add_argument("--built", type=Path, default=Path("build"), help="folder of the executed notebooks")
    for action in (stamp, copy):
        action.add_argument("sources", nargs="*", type=Path, help="the notebooks")
    return parser


def main(arguments: list[str] | None = None) -> int:
    asked = make_parser().parse_args(arguments)
    try:
        if asked.action == "stamp":
            write_stamps(asked.sources, asked.into, asked.given)
        for source in asked.sources if asked.action == "publish" else []:
            print(f"{source}: {'renewed' if publish(source, asked.built / source.name) else 'unchanged'}")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
