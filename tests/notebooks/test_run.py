"""The runner: stamps, execution and publishing, on small notebooks that draw nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from notebooks.run import main, parse_value, publish, read_notebook, read_parameters

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.long
NAME = "00_a"
AGAIN = [sys.executable, str(ROOT / "notebooks" / "run.py"), "execute", NAME]
RUN_ITSELF = f"import subprocess; print(subprocess.run({AGAIN}, cwd='..', capture_output=True, text=True).stderr)"
WRITE = "import os, pathlib; pathlib.Path(os.environ['INTERP_FIGURES'], 'a.txt').write_text(f'{name} {count}')"
PARAMETERS = 'name = "x"  # any\ncount = 2  # 1 to 9\nrate = 0.5\nfast = True'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("INTERP_FIGURES", "INTERP_NOTEBOOK", "INTERP_PARAMETERS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")  # the runner sets them in its process: restored afterwards
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("notebooks").mkdir()
    return tmp_path


def put(*cells: str, parameters: str = PARAMETERS) -> Path:
    code, notebook = nbformat.v4.new_code_cell, nbformat.v4.new_notebook()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_markdown_cell("# A"), code(parameters, metadata={"tags": ["parameters"]})]
    notebook.cells += [code(cell) for cell in cells]
    path = Path("notebooks", f"{NAME}.ipynb")
    nbformat.write(notebook, path)
    return path


def run(*given: str, figures: tuple[str, ...] = ("a.txt",)) -> int:
    """What `make figures` does for one notebook."""
    code = main(["stamp", *(text for value in given for text in ("-p", value))])
    return code or main(["execute", NAME, "--figures", *figures])


def built() -> list[str]:
    return sorted(path.name for path in Path("build").iterdir() if path.suffix != ".stamp")


def test_a_run_makes_notebook_and_figures_with_parameters(place):
    put(WRITE, "print(pathlib.Path.cwd().name)")
    assert run("name=y", "count=3") == 0
    assert Path("figures/a.txt").read_text() == "y 3" and built() == ["00_a.ipynb"]
    assert read_notebook(Path("build/00_a.ipynb")).cells[-1].outputs[0].text == "notebooks\n"  # as in JupyterLab


FAILURES = {
    "a cell": ("1 / 0", ["ZeroDivisionError", "cell [3] failed"]),
    "the kernel": ("os.kill(os.getpid(), 9)", ["Kernel died, of too little memory perhaps"]),
    "an input": ("raise ValueError('name=x is unknown:\\nuse y.')", ["cell [3]: name=x is unknown: use y. ("]),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failing_notebook_never_looks_fresh(place, capsys, what):
    cell, sentences = FAILURES[what]
    put(WRITE, cell)
    Path("build").mkdir()
    Path("build/00_a.ipynb").write_text("old")
    assert run() == 1
    said = capsys.readouterr().err
    assert all(sentence in said for sentence in sentences) and (what != "an input" or said.count("\n") == 1)
    assert built() == ["00_a.failed.ipynb"] and not Path("figures").exists()


@pytest.mark.parametrize("names", [("a.txt", "b.txt"), ()])
def test_a_broken_promise_is_a_failure(place, capsys, names):
    put(WRITE)
    assert run(figures=names) == 1
    assert f"differ: {'b' if names else 'a'}.txt" in capsys.readouterr().err
    assert not Path("build/00_a.ipynb").exists() and not Path("figures").exists()


def test_one_notebook_is_run_once_at_a_time(place):
    put(RUN_ITSELF, WRITE)
    assert run() == 0
    outputs = read_notebook(Path("build/00_a.ipynb")).cells[-2].outputs
    assert "another run is making 00_a" in "".join(output.text for output in outputs)
    assert Path("figures/a.txt").read_text() == "x 2" and built() == ["00_a.ipynb"]


WRONG = {
    "frames=3": "unknown parameter 'frames': no notebook has it; there are count, fast, name, rate",
    "count=many": "count must be of type int",
    "count=True": "count must be of type int",
    "fast=1": "fast must be of type bool",
    "count": "must read name=value",
    "name=./none": "./none does not exist",
    "name=~/none/at/all": "~/none/at/all does not exist",
}


@pytest.mark.parametrize("given", WRONG)
def test_wrong_parameters_end_before_anything_is_made(place, capsys, given):
    put(WRITE)
    assert run(given) == 2
    assert WRONG[given] in capsys.readouterr().err and not Path("build").exists()


def test_a_file_that_is_no_notebook_and_a_pair_that_does_not_exist(place, capsys):
    put("pair", parameters='pair = "motorcycle"  # any')
    assert main(["stamp", "-p", "pair=photos"]) == 2
    assert "photos is neither a folder nor a bundled pair" in capsys.readouterr().err and not Path("build").exists()
    assert main(["stamp", "-p", "pair=world:7"]) == 0
    Path("notebooks/01.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read as a notebook"):
        read_notebook(Path("notebooks/01.ipynb"))


def test_values_take_the_type_of_their_default_and_paths_become_absolute(place, monkeypatch):
    assert read_parameters(put()) == {"name": "x", "count": 2, "rate": 0.5, "fast": True}
    Path("mine").mkdir()
    monkeypatch.setenv("HOME", str(place))
    assert parse_value("name", "mine", "x") == parse_value("name", "~/mine", "x") == str(place / "mine")
    assert parse_value("name", "a=b c", "x") == "a=b c" and parse_value("rate", "2", 0.5) == 2
    assert parse_value("fast", "False", True) is False and parse_value("any", "3", None) == 3
    with pytest.raises(ValueError, match="must be a literal"):
        read_parameters(put(parameters="name = open('x')"))


def stamped(*given: str) -> int:
    assert main(["stamp", *(text for value in given for text in ("-p", value))]) == 0
    return Path("build/00_a.stamp").stat().st_mtime_ns


def test_a_stamp_changes_with_code_parameters_and_pictures_and_nothing_else(place):
    path = put(WRITE)
    first = stamped()
    edited = read_notebook(path)
    edited.cells[0].source = "# Another title"
    edited.cells[1].execution_count = 1
    nbformat.write(edited, path)
    assert stamped() == first
    assert (third := stamped("count=5")) > first
    edited.cells[2].source += "  # changed"
    nbformat.write(edited, path)
    assert (fourth := stamped("count=5")) > third
    Path("mine").mkdir()
    Path("mine/a.png").write_bytes(b"1")
    assert (fifth := stamped("name=mine")) > fourth and stamped("name=mine") == fifth
    Path("mine/a.png").write_bytes(b"22")
    assert stamped("name=mine") > fifth


def test_publishing_copies_outputs_and_leaves_no_trace_of_the_run(place):
    path = put("print(count)", "import ipywidgets\nipywidgets.IntSlider()")
    assert run(figures=()) == 0
    prose = read_notebook(path)
    prose.cells[0].source = "# Better prose"
    nbformat.write(prose, path)
    assert publish(NAME) and not publish(NAME)
    done = read_notebook(path)
    assert done.cells[0].source == "# Better prose" and done.cells[2].outputs[0].text == "2\n"
    assert [cell.execution_count for cell in done.cells[1:]] == [1, 2, 3]
    assert not any(word in path.read_text() for word in ("papermill", "widget-view", "start_time", str(place)))
    assert run("count=3", figures=()) == 0
    with pytest.raises(ValueError, match="run with its defaults"):
        publish(NAME)


@pytest.mark.parametrize(
    "arguments, jobs", [(["DEVICE=cuda:0"], "1"), (["PARAMS=steps=3 device=cuda"], "1"), (["DEVICE=cpu"], "2")]
)
def test_one_notebook_at_a_time_on_a_gpu(arguments, jobs):
    command = ["make", "--eval=jobs: ; @echo $(JOBS)", "jobs", *arguments]
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "JOBS")}
    printed = subprocess.run(command, cwd=ROOT, env=alone, check=True, capture_output=True, text=True).stdout
    assert printed.strip() == jobs
