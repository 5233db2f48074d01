"""Run one notebook through papermill: `python -m interp_lib.show.run notebooks/00.ipynb build/00.ipynb -p pair=...`

Names and types of parameters are checked before anything runs. The kernel works in the notebook's own folder, as it
does in JupyterLab. The notebook is executed as build/NAME.failed.ipynb and takes its name only when everything went
well; its figures wait in build/NAME.figures/ until then, and that folder keeps a second run of the same notebook out.
Whatever stops a run, what has its final name is whole.
"""

from __future__ import annotations

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

from interp_lib.cli_help import Parser
from interp_lib.show.notebook import parse_parameters, read_notebook, read_parameters, write_notebook


def run_notebook(
    source: str | Path,
    target: str | Path,
    *,
    parameters: dict[str, Any] | None = None,
    promised: list[str] | None = None,
    figures: str | Path = "figures",
) -> None:
    """Execute `source` into `target` and its figures into the folder `figures`.

    promised: names of the figures it must make, neither more nor fewer; None takes what comes.
    Raises RuntimeError when a cell fails (with the traceback, unless the library has refused an input), when promise
    and figures differ, and while another process runs the notebook into the same target.
    """
    source, target, figures = Path(source), Path(target), Path(figures)
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    staging = target.with_name(f"{target.stem}.figures").resolve()
    with _alone(staging):
        target.unlink(missing_ok=True)  # from here on an interrupted run is stale
        _execute(source, failed, parameters or {}, staging)
        made = {path.name: path for path in sorted(staging.iterdir())}
        _keep_promise(source.stem, promised, set(made))
        figures.mkdir(parents=True, exist_ok=True)
        hashes = {name: file_hash(path) for name, path in made.items()}
        for name, path in made.items():
            os.replace(path, figures / name)
        executed = read_notebook(failed)
        executed.metadata["interp"] = {"figures": hashes}
        write_notebook(executed, failed)
        os.replace(failed, target)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold `folder`, made empty, and remove it afterwards; RuntimeError while another process holds it."""
    import fcntl  # POSIX only, like the Makefile

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # the system lets go of the lock however the process ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RuntimeError(
            f"{folder.parent}: another run is making {folder.stem} here, wait until it is done"
        ) from None
    try:
        for left in folder.iterdir():  # by a run that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _execute(source: Path, failed: Path, parameters: dict[str, Any], staging: Path) -> None:
    import papermill  # slow, and not needed to say that a parameter is unknown
    from papermill.exceptions import PapermillExecutionError

    os.environ |= {"INTERP_FIGURES": str(staging), "TQDM_DISABLE": "1"}
    os.environ |= {"INTERP_NOTEBOOK": source.stem, "INTERP_PARAMETERS": json.dumps(parameters)}
    bar = {"desc": source.stem, "leave": False, "disable": False} if sys.stderr.isatty() else False
    try:
        papermill.execute_notebook(
            source.resolve(),
            failed.resolve(),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            cwd=source.resolve().parent,
            progress_bar=bar,
            start_timeout=180,
            iopub_timeout=600,
            extra_arguments=["--IPKernelApp.log_level=50"],  # nothing about TCP, or the interrupt that ends every run
        )
    except PapermillExecutionError as error:
        if error.ename in ("ValueError", "FileNotFoundError"):  # how the library refuses an input, in one sentence
            said = " ".join(error.evalue.split())
            raise RuntimeError(f"{source}: cell [{error.exec_count}]: {said} (traceback in {failed})") from None
        said = "\n".join(error.traceback)
        raise RuntimeError(f"{said}\n{source}: cell [{error.exec_count}] failed, see {failed}") from None
    except RuntimeError as error:  # nbclient's DeadKernelError
        raise RuntimeError(f"{source}: {error}, of too little memory perhaps: try again with JOBS=1") from None


def _keep_promise(name: str, promised: list[str] | None, made: set[str]) -> None:
    expected = made if promised is None else set(promised)
    if missing := ", ".join(sorted(expected - made)):
        raise RuntimeError(f"{name}: did not make {missing}, which the Makefile promises (FIGURES_{name})")
    if extra := ", ".join(sorted(made - expected)):
        raise RuntimeError(f"{name}: made {extra}, which the Makefile does not promise (FIGURES_{name})")


def make_parser() -> Parser:
    examples = {
        "notebooks/00_quickstart.ipynb build/00_quickstart.ipynb -p pair=motorcycle": "with a parameter",
    }
    parser = Parser(prog="python -m interp_lib.show.run", description="Run one notebook.", examples=examples)
    parser.add_argument("source", help="the notebook")
    parser.add_argument("target", help="where the executed notebook goes")
    parser.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument("--figures", dest="promised", nargs="*", help="names of the figures it must make")
    parser.add_argument("--into", default="figures", help="folder for the figures")
    parser.add_argument("--lenient", action="store_true", help="pass over parameters this notebook lacks")
    return parser


def main(arguments: list[str] | None = None) -> int:
    asked = make_parser().parse_args(arguments)
    try:
        defaults = read_parameters(read_notebook(asked.source), asked.source)
        parameters = parse_parameters(asked.given, defaults, lenient=asked.lenient)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):  # so that the kernel is shut down on the way out
        signal.signal(number, signal.default_int_handler)
    start, said = time.monotonic(), "".join(f" {name}={value!r}" for name, value in parameters.items())
    print(f"{asked.source}{said} ...", flush=True)
    try:
        run_notebook(asked.source, asked.target, parameters=parameters, promised=asked.promised, figures=asked.into)
    except KeyboardInterrupt:
        print(f"{asked.source}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"{error}" if isinstance(error, RuntimeError) else f"{asked.source}: {error!r}", file=sys.stderr)
        return 1
    print(f"{asked.source} done in {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
