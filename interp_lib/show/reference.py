"""docs/api.md: every public name with its signature and its docstring, room by room.

`python -m interp_lib.show.reference docs/api.md` writes it; a test holds the page to the code.
"""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import interp_lib
from interp_lib.cli_help import Parser
from interp_lib.files import atomic_write

COMMAND = "interp_lib.show.reference"
ROOMS = ("types", "images", "models", "pairs", "world", "dreammover", "inbetweening", "show", "bench")
HEAD = f"""# API reference

Everything that `from interp_lib import ...` offers, with what its docstring says: shapes, units, ranges, errors and the
source in the papers. Images are float tensors [N,3,H,W] in [0,1]; flow is [N,2,H,W], x to the right before y downwards.

<!-- written by python -m {COMMAND} docs/api.md -->
"""


def report() -> str:
    """The whole page."""
    rooms: dict[str, list[str]] = {}
    for name in sorted(interp_lib._HOME, key=lambda name: ROOMS.index(interp_lib._HOME[name].split(".")[0])):
        rooms.setdefault(f"interp_lib.{interp_lib._HOME[name]}", []).append(_entry(name, getattr(interp_lib, name)))
    text = [HEAD]
    for home, entries in rooms.items():
        text += [f"## {home}\n", f"{_prose(_first(import_module(home).__doc__))}\n", *entries]
    return "\n".join(text)


def _entry(name: str, value: Any) -> str:
    """A name's heading, signature and docstring; of a class also its methods."""
    if not callable(value):
        return f"### {name}\n\n{_value(value)}\n"
    parts = [f"### {name}\n", f"```py\n{_signature(name, value)}\n```\n", f"{_prose(inspect.getdoc(value) or '')}\n"]
    if inspect.isclass(value):
        for method, function in vars(value).items():
            plain = inspect.isfunction(function) and not method.startswith("_")
            if plain and (said := inspect.getdoc(function)):
                parts.append(f"- `.{method}`: {_prose(_first(said))}")
        parts.append("")
    return "\n".join(parts)


def _first(text: str | None) -> str:
    """A docstring's first paragraph."""
    return (text or "").split("\n\n")[0]


def _value(value: Any) -> str:
    """What stands for a constant: of a table its keys."""
    return ", ".join(f"`{key}`" for key in value) if isinstance(value, dict) else f"`{value!r}`"


def _signature(name: str, value: Any) -> str:
    """As one line where that fits into 100 characters, else an argument a line."""
    signature = _bare(inspect.signature(value))
    line = f"{name}{signature}"
    if len(line) <= 100:
        return line
    end = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    arguments, starred = [], False
    for parameter in signature.parameters.values():
        starred |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            arguments.append("*")
            starred = True
        arguments.append(str(parameter))
    return f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){end}"


class _Bare(str):
    """Text that is shown without quotes."""

    __repr__ = str.__str__


def _bare(signature: inspect.Signature) -> inspect.Signature:
    """Annotations as they are written, and folders of this repository from its root."""
    root, empty = Path(interp_lib.__file__).parents[1], inspect.Parameter.empty
    parameters = []
    for parameter in signature.parameters.values():
        if isinstance(parameter.default, Path):
            parameter = parameter.replace(default=_Bare(f'"{parameter.default.relative_to(root).as_posix()}"'))
        if parameter.annotation is not empty:
            parameter = parameter.replace(annotation=_Bare(parameter.annotation))
        parameters.append(parameter)
    ending = signature.return_annotation
    return signature.replace(parameters=parameters, return_annotation=ending if ending is empty else _Bare(ending))


def _prose(text: str) -> str:
    """A docstring as Markdown: what would be taken for markup is shown as it is."""
    shown = re.split(r"(`[^`\n]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<])", r"\\\1", part) for part in shown)


def make_parser() -> Parser:
    examples = {"docs/api.md": "renew the page after a change of a public docstring"}
    parser = Parser(prog=f"python -m {COMMAND}", description="Write the API reference.", examples=examples)
    parser.add_argument("page", type=Path, help="the file to write")
    return parser


def main(arguments: list[str] | None = None) -> int:
    page = make_parser().parse_args(arguments).page
    try:
        with atomic_write(page) as temporary:
            temporary.write_text(report(), encoding="utf-8")
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
