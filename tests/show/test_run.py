"""The runner, the stamps and publishing, on small notebooks that draw nothing heavy."""

from pathlib import Path

import nbformat
import pytest

from interp_lib.show.fresh import publish, write_stamps
from interp_lib.show.notebook import parse_parameters, read_notebook, read_parameters
from interp_lib.show.run import main

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.long
RUN_ITSELF = "from interp_lib.show.run import main; assert main(['00_a.ipynb', '../build/00_a.ipynb']) == 1"
WRITE = "import os, pathlib; pathlib.Path(os.environ['INTERP_FIGURES'], 'a.txt').write_text(f'{name} {count}')"


def notebook(*cells: str, parameters: str = 'name = "x"  # any\ncount = 2  # 1 to 9\nrate = 0.5\nfast = True'):
    code = nbformat.v4.new_code_cell
    made = nbformat.v4.new_notebook()
    made.metadata = nbformat.from_dict({"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    made.cells = [nbformat.v4.new_markdown_cell("# A"), code(parameters, metadata={"tags": ["parameters"]})]
    made.cells += [code(cell) for cell in cells]
    return made


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("INTERP_FIGURES", "INTERP_NOTEBOOK", "INTERP_PARAMETERS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")  # the runner sets them in its process: put back afterwards
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("notebooks").mkdir()
    return tmp_path


def put(*cells: str, **options) -> Path:
    path = Path("notebooks/00_a.ipynb")
    nbformat.write(notebook(*cells, **options), path)
    return path


def test_a_run_makes_notebook_and_figures_with_parameters(place):
    put(WRITE, "print(pathlib.Path.cwd().name)")
    assert (
        main(["notebooks/00_a.ipynb", "build/00_a.ipynb", "-p", "name=y", "-p", "count=3", "--figures", "a.txt"]) == 0
    )
    assert Path("figures/a.txt").read_text() == "y 3"
    assert sorted(path.name for path in Path("build").iterdir()) == ["00_a.ipynb"]
    assert read_notebook("build/00_a.ipynb").cells[-1].outputs[0].text == "notebooks\n"  # runs where Jupyter runs it


def test_a_failing_notebook_leaves_no_executed_one_and_shows_the_traceback(place, capsys):
    put(WRITE, "1 / 0")
    Path("build").mkdir()
    Path("build/00_a.ipynb").write_text("old")
    assert main(["notebooks/00_a.ipynb", "build/00_a.ipynb", "--figures", "a.txt"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and "cell [3] failed" in said
    assert [path.name for path in Path("build").iterdir()] == ["00_a.failed.ipynb"]
    assert not Path("figures").exists()


def test_a_kernel_that_dies_is_a_failure_of_its_notebook(place, capsys):
    put(WRITE, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert main(["notebooks/00_a.ipynb", "build/00_a.ipynb", "--figures", "a.txt"]) == 1
    assert "notebooks/00_a.ipynb: Kernel died, of too little memory perhaps" in capsys.readouterr().err
    assert [path.name for path in Path("build").iterdir()] == ["00_a.failed.ipynb"]


@pytest.mark.parametrize("kind", ["ValueError", "FileNotFoundError"])
def test_an_input_that_is_refused_in_a_cell_is_one_sentence(place, capsys, kind):
    put(WRITE, f"raise {kind}('name=x is unknown:\\nuse y.')")
    assert main(["notebooks/00_a.ipynb", "build/00_a.ipynb", "--figures", "a.txt"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    assert said.startswith("notebooks/00_a.ipynb: cell [3]: name=x is unknown: use y. (") and "00_a.failed" in said


def test_one_notebook_is_run_once_at_a_time(place, capsys):
    path = put(RUN_ITSELF, WRITE)
    assert main([str(path), "build/00_a.ipynb", "--figures", "a.txt"]) == 0
    said = read_notebook("build/00_a.ipynb").cells[-2].outputs
    assert [output.text for output in said if output.name == "stderr"][0].count("another run is making 00_a") == 1
    assert Path("figures/a.txt").read_text() == "x 2"
    assert sorted(item.name for item in Path("build").iterdir()) == ["00_a.ipynb"]


@pytest.mark.parametrize("names, sentence", [(["a.txt", "b.txt"], "did not make b.txt"), ([], "made a.txt")])
def test_a_broken_promise_is_a_failure(place, capsys, names, sentence):
    put(WRITE)
    assert main(["notebooks/00_a.ipynb", "build/00_a.ipynb", "--figures", *names]) == 1
    assert sentence in capsys.readouterr().err
    assert not Path("build/00_a.ipynb").exists() and not Path("figures").exists()


@pytest.mark.parametrize(
    "given, sentence",
    [
        ("frames=3", "unknown parameter 'frames': there are name, count, rate, fast"),
        ("count=many", "count must be of type int"),
        ("count=True", "count must be of type int"),
        ("fast=1", "fast must be of type bool"),
        ("count", "must read name=value"),
        ("name=./none", "./none does not exist"),
        ("name=/none/at/all", "/none/at/all does not exist"),
        ("name=~/none/at/all", "~/none/at/all does not exist"),
    ],
)
def test_wrong_parameters_end_before_anything_runs(place, capsys, given, sentence):
    put(WRITE)
    assert main(["notebooks/00_a.ipynb", "build/00_a.ipynb", "-p", given]) == 2
    assert sentence in capsys.readouterr().err and not Path("build").exists()


def test_no_such_notebook(place, capsys):
    assert main(["notebooks/07.ipynb", "build/07.ipynb"]) == 2
    assert "no such notebook" in capsys.readouterr().err
    Path("notebooks/08.ipynb").write_text("{}")
    assert main(["notebooks/08.ipynb", "build/08.ipynb"]) == 2
    assert "not a Jupyter notebook" in capsys.readouterr().err


def test_values_take_the_type_of_their_default_and_paths_become_absolute(place, monkeypatch):
    defaults = read_parameters(notebook())
    Path("mine").mkdir()
    given = ["name=mine", "count=3", "rate=2", "fast=False"]
    assert parse_parameters(given, defaults) == {"name": str(place / "mine"), "count": 3, "rate": 2, "fast": False}
    monkeypatch.setenv("HOME", str(place))
    assert parse_parameters(["name=~/mine"], defaults) == {"name": str(place / "mine")}
    assert parse_parameters(["name=a=b c", "other=1"], defaults, lenient=True) == {"name": "a=b c"}


@pytest.mark.parametrize("cell", ["a = open('x')", "a, b = 1, 2", "import os", "a = [1, 2]", "a = b = 1"])
def test_parameters_are_flat_literals(cell):
    with pytest.raises(ValueError, match="literal"):
        read_parameters(notebook(parameters=cell))


def stamped(*given: str) -> int:
    write_stamps([Path("notebooks/00_a.ipynb")], Path("build"), list(given))
    return Path("build/00_a.stamp").stat().st_mtime_ns


def test_a_stamp_changes_with_code_and_parameters_and_nothing_else(place):
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
    assert stamped("count=5") > third


def test_a_picture_that_changes_in_a_folder_makes_stale(place):
    put(WRITE)
    Path("mine").mkdir()
    Path("mine/a.png").write_bytes(b"1")
    first = stamped("name=mine")
    assert stamped("name=mine") == first
    Path("mine/a.png").write_bytes(b"22")
    assert stamped("name=mine") > first


def test_a_figure_altered_by_hand_makes_stale(place):
    path = put(WRITE)
    first = stamped()
    assert main([str(path), "build/00_a.ipynb", "--figures", "a.txt"]) == 0
    assert stamped() == first
    Path("figures/a.txt").write_text("by hand")
    assert stamped() > first


def test_a_pair_that_does_not_exist_ends_before_any_notebook(place):
    put("pair", parameters='pair = "motorcycle"  # any')
    for known in ("world:7", "notebooks"):
        assert stamped(f"pair={known}")
    Path("build/00_a.stamp").unlink()
    with pytest.raises(FileNotFoundError, match="photos is neither a folder nor a bundled pair"):
        stamped("pair=photos")
    assert not Path("build/00_a.stamp").exists()


def test_a_parameter_that_no_notebook_has_is_an_error(place):
    put(WRITE)
    with pytest.raises(ValueError, match="no notebook has it; there are count, fast, name, rate"):
        stamped("device=cpu")
    assert not Path("build").exists()


def test_publishing_copies_outputs_and_leaves_no_trace_of_the_run(place):
    path = put("print(count)", "import ipywidgets\nipywidgets.IntSlider()")
    assert main([str(path), "build/00_a.ipynb"]) == 0
    prose = read_notebook(path)
    prose.cells[0].source = "# Better prose"
    nbformat.write(prose, path)
    assert publish(path, Path("build/00_a.ipynb")) and not publish(path, Path("build/00_a.ipynb"))
    done = read_notebook(path)
    assert done.cells[0].source == "# Better prose" and done.cells[2].outputs[0].text == "2\n"
    assert [cell.execution_count for cell in done.cells[1:]] == [1, 2, 3]
    text = path.read_text()
    assert not any(word in text for word in ("papermill", "widget-view", "start_time", str(place)))


def test_only_a_run_with_defaults_is_published(place):
    path = put(WRITE)
    assert main([str(path), "build/00_a.ipynb", "-p", "count=3"]) == 0
    with pytest.raises(ValueError, match="run with its defaults"):
        publish(path, Path("build/00_a.ipynb"))
