"""Run the notebooks through papermill; the Makefile calls the three commands.

    python notebooks/run.py stamp -p pair=motorcycle             write build/NAME.stamp for each notebook that is stale
    python notebooks/run.py execute NAME --figures a.png b.gif   run one into build/NAME.ipynb and figures/
    python notebooks/run.py publish                              copy the outputs into the committed notebooks

A stamp holds a hash of everything that a notebook's results depend on, and its parameters. It is rewritten only when
they change, so that `make` may compare times. A notebook is executed as build/NAME.failed.ipynb and its figures go to
build/NAME.figures/; everything gets its final name only when the whole run has succeeded.
"""

import argparse
import ast
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from interp_lib.files import atomic_write
from interp_lib.show.figure import library_hash

NOTEBOOKS, BUILD, FIGURES = Path("notebooks"), Path("build"), Path("figures")


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook. Raises ValueError for a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # a damaged file may raise anything in nbformat
        raise ValueError(f"{path} cannot be read as a notebook: {error}") from None


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells that are not empty."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def code_hash(notebook: NotebookNode) -> str:
    """Hash code and tags; prose, outputs and execution counts do not change a result."""
    code = [[cell.source, list(cell.metadata.get("tags", []))] for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def read_parameters(path: Path) -> dict[str, Any]:
    """Return names and defaults of a notebook's parameters, as papermill finds them in the tagged cell.

    Raises ValueError for a default that is no literal.
    """
    found = papermill.inspect_notebook(str(path))
    try:
        return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}
    except (ValueError, SyntaxError):
        raise ValueError(f"{path}: a parameter's default must be a literal (text, number, True, False, None)") from None


def parse_value(name: str, text: str, default: Any) -> Any:
    """Convert the text of a parameter to the type of its default.

    A text that names an existing file or folder becomes absolute, since a notebook runs in its own folder.
    Raises FileNotFoundError for a text that can only be a path and does not exist, ValueError for another type.
    """
    if isinstance(default, str):
        path = Path(text).expanduser()
        if text and path.exists():
            return str(path.resolve())
        if text.startswith(("/", "./", "../", "~")):
            raise FileNotFoundError(f"parameter {name}: {text} does not exist")
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    if default is None or type(value) is type(default) or (isinstance(default, float) and type(value) is int):
        return value
    kind = type(default).__name__
    raise ValueError(f"parameter {name} must be of type {kind} like its default {default!r}, not {text[:100]!r}")


def stamp(given: list[str]) -> None:
    """Write build/NAME.stamp of every notebook that is stale. given: texts `name=value`.

    Raises ValueError, before anything is written, for a parameter that no notebook has or that has another type, and
    FileNotFoundError for a pair that does not exist.
    """
    defaults = {path: read_parameters(path) for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}
    known = sorted({name for names in defaults.values() for name in names})
    texts = dict(item.partition("=")[::2] for item in given)
    for item in given:
        if "=" not in item:
            raise ValueError(f"parameter {item!r} must read name=value")
        if (name := item.partition("=")[0]) not in known:
            raise ValueError(f"unknown parameter {name!r}: no notebook has it; there are {', '.join(known)}")
    parameters = {
        path: {name: parse_value(name, text, names[name]) for name, text in texts.items() if name in names}
        for path, names in defaults.items()
    }
    if "pair" in texts:
        from interp_lib.pairs.load import check_source  # imports torch

        check_source(next(values["pair"] for values in parameters.values() if "pair" in values))
    BUILD.mkdir(exist_ok=True)
    library = library_hash()
    for path, values in parameters.items():
        inputs = [library, code_hash(read_notebook(path)), [_listing(value) for value in values.values()]]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        content = json.dumps({"parameters": values, "inputs": digest}, sort_keys=True) + "\n"
        file = BUILD / f"{path.stem}.stamp"
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            file.write_text(content, encoding="utf-8")


def _listing(value: Any) -> list[list[str | int]]:
    """List the files behind a parameter that is a path, with sizes and times: new pictures are a new input."""
    if not isinstance(value, str) or not os.path.isabs(value):
        return []
    files = [Path(value)] if Path(value).is_file() else sorted(p for p in Path(value).rglob("*") if p.is_file())
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def execute(name: str, promised: list[str]) -> None:
    """Run notebooks/NAME.ipynb with the parameters of its stamp into build/NAME.ipynb and its figures into figures/.

    promised: names of the figures it must make, neither more nor fewer. Raises RuntimeError when a cell fails, when
    figures and promise differ, and while another process runs the same notebook.
    """
    source, target = NOTEBOOKS / f"{name}.ipynb", BUILD / f"{name}.ipynb"
    failed, staging = BUILD / f"{name}.failed.ipynb", BUILD / f"{name}.figures"
    parameters = json.loads((BUILD / f"{name}.stamp").read_text(encoding="utf-8"))["parameters"]
    with _exclusive(staging):
        target.unlink(missing_ok=True)  # from here on the notebook is stale, however this run ends
        _run_papermill(source, failed, parameters, staging.resolve())
        made = {path.name for path in staging.iterdir()}
        if made != set(promised):
            differing = ", ".join(sorted(made ^ set(promised)))
            raise RuntimeError(f"{name}: figures made and figures promised (FIGURES_{name}) differ: {differing}")
        FIGURES.mkdir(exist_ok=True)
        for figure in sorted(made):
            os.replace(staging / figure, FIGURES / figure)
        os.replace(failed, target)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold an empty folder and remove it afterwards; RuntimeError while another process holds it."""
    import fcntl  # POSIX only, like the Makefile

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # the system releases the lock however the process ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RuntimeError(f"another run is making {folder.stem} here, wait until it is done") from None
    try:
        for leftover in folder.iterdir():  # of a run that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _run_papermill(source: Path, target: Path, parameters: dict[str, Any], figures: Path) -> None:
    """Execute `source` into `target`, in the notebook's own folder, as JupyterLab does."""
    os.environ |= {"INTERP_FIGURES": str(figures), "TQDM_DISABLE": "1"}
    os.environ |= {"INTERP_NOTEBOOK": source.stem, "INTERP_PARAMETERS": json.dumps(parameters)}
    try:
        papermill.execute_notebook(
            source.resolve(),
            target.resolve(),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            cwd=source.resolve().parent,
            progress_bar={"desc": source.stem, "leave": False} if sys.stderr.isatty() else False,
            start_timeout=180,
            iopub_timeout=600,
            extra_arguments=["--IPKernelApp.log_level=50"],  # no word about TCP or the interrupt that ends every run
        )
    except PapermillExecutionError as error:
        if error.ename in ("ValueError", "FileNotFoundError"):  # the library refuses an input, in one sentence
            sentence = " ".join(error.evalue.split())
            raise RuntimeError(f"{source}: cell [{error.exec_count}]: {sentence} (traceback in {target})") from None
        trace = "\n".join(error.traceback)
        raise RuntimeError(f"{trace}\n{source}: cell [{error.exec_count}] failed, see {target}") from None
    except RuntimeError as error:  # nbclient's DeadKernelError
        raise RuntimeError(f"{source}: {error}, of too little memory perhaps: try again with JOBS=1") from None


def publish(name: str) -> bool:
    """Copy the outputs of build/NAME.ipynb into notebooks/NAME.ipynb; return whether that changed the file.

    Timings, widget state and papermill's notes stay behind: they differ from run to run. Raises ValueError unless
    the two notebooks have the same code.
    """
    source, executed = NOTEBOOKS / f"{name}.ipynb", BUILD / f"{name}.ipynb"
    before = source.read_text(encoding="utf-8")
    notebook, ran = read_notebook(source), read_notebook(executed)
    if code_hash(notebook) != code_hash(ran):
        raise ValueError(f"{executed} is not {source} run with its defaults: run `make figures` first")
    for cell, done in zip(code_cells(notebook), code_cells(ran), strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
        for output in cell.outputs:
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "interp": {"code": code_hash(notebook)}}
    notebook.metadata = nbformat.from_dict(metadata)
    with atomic_write(source) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return source.read_text(encoding="utf-8") != before


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, 1 for a notebook that failed, 2 for a wrong input, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("stamp", "execute", "publish"))
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; `execute` takes one")
    parser.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument("--figures", nargs="*", default=[], help="names of the figures that it must make")
    asked = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # so that the kernel is shut down on the way out
        signal.signal(number, signal.default_int_handler)
    start = time.monotonic()
    try:
        if asked.command == "stamp":
            stamp(asked.given)
        for name in asked.names if asked.command == "execute" else []:
            print(f"{name} ...", flush=True)
            execute(name, asked.figures)
            print(f"{name} done in {time.monotonic() - start:.0f} s", flush=True)
        for name in asked.names if asked.command == "publish" else []:
            print(f"{name}: {'renewed' if publish(name) else 'unchanged'}")
    except KeyboardInterrupt:
        print(f"{' '.join([asked.command, *asked.names])}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1 if isinstance(error, RuntimeError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
