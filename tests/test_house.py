"""The house: lock, Makefile, and what importing the library costs."""

import ast
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def lock_check(folder: Path) -> subprocess.CompletedProcess:
    return run(sys.executable, str(folder / ".ci" / "lock.py"), "check", cwd=folder)


@pytest.fixture
def house(tmp_path):
    """A copy of what the lock is made from."""
    for name in ("pyproject.toml", "requirements.lock", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    return tmp_path


def test_lock_is_fresh():
    checked = lock_check(ROOT)
    assert checked.returncode == 0, checked.stderr


def test_a_changed_dependency_makes_the_lock_stale(house):
    project = house / "pyproject.toml"
    project.write_text(project.read_text().replace("line-length = 120", "line-length = 100"))
    assert lock_check(house).returncode == 0
    project.write_text(project.read_text().replace('"tqdm>=4.67"', '"tqdm>=4.67", "einops>=0.8"'))
    said = lock_check(house).stderr
    assert "stale" in said and "lacks einops" in said


def test_every_imported_package_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    listed |= {"imageio-ffmpeg"} if "imageio[ffmpeg]" in str(project["dependencies"]) else set()
    listed |= {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"]["ray"]}
    homes = packages_distributions()
    for path in (ROOT / "interp_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"interp_lib"}:
                found = listed & {canonicalize_name(home) for home in homes.get(top, [top])}
                assert found, f"{path.name} imports {top}"


@pytest.mark.parametrize("line", ["torchvision==0.28.0", "nvidia-cublas==13.0.0", "xformers==0.0.30"])
def test_the_lock_asks_for_nothing_a_plain_machine_lacks(house, line):
    (house / "requirements.lock").open("a").write(line + "\n")
    assert line.split("==")[0] in lock_check(house).stderr


@pytest.mark.parametrize(
    "line",
    ["einops", "einops>=0.8", "einops==0.*", "einops @ https://example.org/a.whl", "git+https://example.org/a", "-e ."]
    + ["--index-url https://example.org", "-r other.txt", "einops==0.8; python_version > '3'"],
)
def test_the_lock_holds_exact_versions_and_nothing_else(house, line):
    (house / "requirements.lock").open("a").write(line + "\n")
    said = lock_check(house).stderr
    assert line in said and "every line is name==version" in said


def test_every_promise_has_a_notebook_and_every_notebook_a_promise():
    lines = run("make", "-s", "promises").stdout.splitlines()
    notebooks = {line.split(":")[0]: line.split(":")[1].split() for line in lines}
    assert set(notebooks) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} != set()
    names = [figure for figures in notebooks.values() for figure in figures]
    assert len(names) == len(set(names)), "two notebooks promise one figure"
    assert all(figures for figures in notebooks.values()), "a notebook without a figure"


def test_a_mistyped_parameter_is_an_error_before_anything_is_made(house):
    made = run("make", "figures", "PIAR=x", cwd=house)
    assert made.returncode != 0 and "unknown parameter PIAR" in made.stderr and "PAIR" in made.stderr
    assert not (house / ".venv").exists() and not (house / "build").exists()


@pytest.mark.parametrize("target", ["figures", "notebooks", "nbval"])
def test_a_folder_without_notebooks_is_an_error_before_anything_is_made(house, target):
    made = run("make", target, cwd=house)
    assert made.returncode != 0 and "there is no notebook" in made.stderr
    assert not (house / ".venv").exists() and not (house / "build").exists()


def test_committed_notebooks_take_no_parameters(house):
    assert "takes no parameter" in run("make", "notebooks", "PAIR=x", cwd=house).stderr


def test_help_lists_every_target(house):
    said = run("make", cwd=house).stdout
    for target in "help figures test unit notebooks models lab bench lint clean lock".split():
        assert f"\n{target} " in f"\n{said}", target


def test_importing_the_library_is_light():
    heavy = {"torch", "diffusers", "transformers", "matplotlib", "numpy", "PIL", "skimage", "nbformat"}
    code = f"import sys, interp_lib; print(sorted({heavy} & set(sys.modules)))"
    assert run(sys.executable, "-c", code).stdout == "[]\n"
