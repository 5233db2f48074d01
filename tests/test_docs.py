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

import interp_lib
from experiments.studies import tables
from interp_lib import METHODS
from interp_lib.cli import make_parser
from interp_lib.images import to_pil
from interp_lib.show import reference

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "conformance" / "dreammover" / "tiny_sd"
PAGES = sorted((ROOT / "docs").glob("*.md"))
READ = [ROOT / "README.md", *PAGES]
COMMANDS = ["interp_lib.cli"]
COMMANDS += ["interp_lib.show.run", "interp_lib.show.fresh", "interp_lib.show.reference", "experiments.train.__main__"]


def blocks(path, *languages):
    """What stands in fences of these languages; fences are read in order, so that an end is never taken for a start."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def inline(path):
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M))


def with_its_commands(parser):
    """A parser and those of its commands."""
    found = [parser]
    for action in parser._actions:
        for inner in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            found += with_its_commands(inner)
    return found


PARSERS = [p for name in COMMANDS for p in with_its_commands(importlib.import_module(name).make_parser())]
ALL_PARSERS = [*PARSERS, tables.make_parser()]
OPTIONS = {option for p in ALL_PARSERS for action in p._actions for option in action.option_strings}


@pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.prog.removeprefix("python -m "))
def test_help_teaches(parser):
    printed = parser.format_help()
    leaf = not any(isinstance(action.choices, dict) for action in parser._actions)
    assert not leaf or "examples:" in printed
    for example in parser.examples:  # an example that the parser refuses ends the program
        parser.parse_args(shlex.split(example.split(" > ")[0]))
    for action in parser._actions:
        assert action.help or isinstance(action.choices, dict), f"{parser.prog}: no help for {action.dest}"
        if (
            isinstance(action.default, (int, float, str))
            and action.option_strings
            and action.default not in (False, "", "==SUPPRESS==")
        ):
            assert f"(default: {action.default})" in " ".join(printed.split()) or "default" in action.help, action.dest


def spoken(path):
    """Commands of the library in the code blocks of a page, without the interpreter."""
    lines = [line for block in blocks(path, "", "sh") for line in block.splitlines()]
    lines += [text for text in inline(path)]
    return [match[1].split(" #")[0] for line in lines if (match := re.search(r"python -m interp_lib (.*)", line))]


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    for command in spoken(page):
        if not re.fullmatch(r"[\w-]+", command) and "..." not in command and "COMMAND" not in command:
            make_parser().parse_args(shlex.split(command))
    for text in inline(page):
        for option in re.findall(r"(?:^|\s)(--[a-z][\w-]*)", text):
            assert option in OPTIONS or text.startswith(("pip", "git", "accelerate", ".venv/bin/pip")), (
                f"{page.name}: {text}"
            )
        if module := re.search(r"python -m ((?:interp_lib|experiments)[\w.]*)", text):
            assert importlib.util.find_spec(module[1]), text


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_arguments_make_targets_extras_and_files_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for text in inline(page) + ["\n".join(blocks(page, "python"))]:
        for call in calls(text):
            takes = inspect.signature(getattr(interp_lib, call.func.id)).parameters
            assert {keyword.arg for keyword in call.keywords} - {None} <= set(takes), (
                f"{page.name}: {ast.unparse(call)}"
            )
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
    page.write_text("use `--chunks 3`")
    with pytest.raises(AssertionError):
        test_commands_and_options_exist(page)
    page.write_text("```sh\npython -m interp_lib interpolate a.png b.png -o a.mp4 --chunks 3\n```")
    with pytest.raises(SystemExit):
        test_commands_and_options_exist(page)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "api.md"], ids=lambda page: page.name)
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


def test_the_api_reference_is_the_codes():
    assert (ROOT / "docs" / "api.md").read_text() == reference.report(), (
        "run python -m interp_lib.show.reference docs/api.md"
    )
