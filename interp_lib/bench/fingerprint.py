"""What a number depends on, as hashes: the code that makes it (comments and docstrings apart), weights, photographs."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import tokenize
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]
ROOT = LIBRARY.parent
# the weights of the embedded model of a kind, and what grounds are cut from
INPUTS = {kind: (f"data/models/{kind}", "data/photographs") for kind in ("image", "video")}


def code_hash(module: str) -> str:
    """Of a module and of all modules of this library that it imports, directly or not."""
    code = hashlib.sha256()
    for name in sorted(_imported(module)):
        code.update(f"{name}\0{_meaning(_file(name))}\0".encode())
    return code.hexdigest()[:16]


def weights_hash(kind: str, source: str = "embedded") -> str:
    """Of the embedded "image" or "video" model and the photographs; of another folder; a hub id stands for itself."""
    if source != "embedded":
        return _inputs_hash(Path(source), (".",)) if os.path.isdir(source) else source
    return _inputs_hash(ROOT, INPUTS[kind])


def photographs_hash() -> str:
    """Of the photographs that the world cuts its grounds from."""
    return _inputs_hash(ROOT, ("data/photographs",))


@cache
def _inputs_hash(root: Path, folders: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    found = (path for folder in folders for path in (root / folder).rglob("*"))
    for path in sorted(
        path for path in found if path.is_file() and path.suffix != ".md" and path.name != "settings.json"
    ):
        digest.update(path.relative_to(root).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imported(module: str) -> set[str]:
    """The modules of this library that a module needs, directly or not, itself included."""
    needed, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in needed or name == "interp_lib" or not _file(name).is_file():
            continue
        needed.add(name)
        for node in ast.walk(ast.parse(_file(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("interp_lib"):
                if node.module == "interp_lib" and name.startswith("interp_lib.bench.studies."):
                    raise ValueError(f"{name} imports from interp_lib itself: name the module, so that it is hashed")
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return needed


@cache
def _meaning(path: Path) -> str:
    """The lines of code of a file, without comments, docstrings, empty lines: the same on any version of Python."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str())) as docstring, *_]:
                for row in range(docstring.lineno - 1, docstring.end_lineno):
                    lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())
