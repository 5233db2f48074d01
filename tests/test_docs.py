"""What the pages say works: their Python runs, and their commands, options, arguments and files exist."""

import ast
import importlib
import inspect
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
import typer

import interp_lib
from interp_lib.bench import METHODS
from interp_lib.cli import app
from interp_lib.images import to_pil

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "conformance" / "dreammover" / "tiny_sd"
PAGES = sorted((ROOT / "docs").glob("*.md"))
READ = [ROOT / "README.md", *PAGES]


def blocks(path, *languages):
    """What stands in fences of these languages; fences are read in order, so that an end is never taken for a start."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def inline(path):
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M))


def spoken(path):
    """Commands of the library in the code blocks of a page, without the interpreter."""
    lines = [line for block in blocks(path, "", "sh") for line in block.splitlines()]
    lines += [text for text in inline(path)]
    found = (re.search(r"(?:python -m|bin/)\s?interp_lib (.*)", line) for line in lines)
    return [match[1].split(" #")[0] for match in found if match]


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    for command in spoken(page):
        if not re.fullmatch(r"[\w-]+", command) and "..." not in command and "COMMAND" not in command:
            name, *given = shlex.split(command)
            shell = typer.main.get_command(app).commands[name]
            shell.make_context(name, given)  # raises for what the command does not take
    for text in inline(page):
        if module := re.search(r"python -m ((?:interp_lib|experiments)[\w.]*)", text):
            assert importlib.util.find_spec(module[1]), text


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_arguments_make_targets_extras_and_files_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for text in inline(page) + ["\n".join(blocks(page, "python"))]:
        for call in calls(text):
            takes = inspect.signature(getattr(interp_lib, call.func.id)).parameters
            given = {keyword.arg for keyword in call.keywords} - {None}
            assert given <= set(takes), f"{page.name}: {ast.unparse(call)}"
        for target in re.findall(r"^make ([a-z-]+)", text):
            assert target in targets, text
        for named in re.findall(r"-e '\.\[([\w,]+)\]'", text):
            assert set(named.split(",")) <= set(extras), text
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def calls(text):
    """Calls of public names in a piece of Python; what is no Python has none."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [node for node in named if node.func.id in interp_lib.__all__]


def test_the_readers_see_what_is_wrong(tmp_path):
    page = tmp_path / "page.md"
    for wrong in ("`interpolate(model, a, b, frame=3)`", "`make figurs`", "[x](none.md)", "`pip install -e '.[none]'`"):
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            test_arguments_make_targets_extras_and_files_exist(page)
    page.write_text("```sh\npython -m interp_lib interpolate a.png b.png -o a.mp4 --chunks 3\n```")
    with pytest.raises(typer.TyperException):
        test_commands_and_options_exist(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_short_and_their_python_runs(page, tmp_path, monkeypatch):
    assert len(page.read_text().splitlines()) <= 120
    code = blocks(page, "python")
    if not code:
        return
    monkeypatch.chdir(tmp_path)
    for name in ("still", "still, last"):  # gone again afterwards
        monkeypatch.setitem(METHODS, name, None)
    shutil.copytree(TINY, tmp_path / "path" / "to" / "model")
    (tmp_path / "path" / "to" / "folder").mkdir()
    frames = torch.rand(2, 3, 64, 64)
    for k, frame in enumerate(frames):
        to_pil(frame).save(tmp_path / "path" / "to" / "folder" / f"{k}.png")
    names = {}
    for block in code:
        exec(compile(block, page.name, "exec"), names)
