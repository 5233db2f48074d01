"""The commands about pairs, and the shell's completion: `pairs` lists, `suitability` judges, `completion` prints."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_lib.cli_help import read_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from interp_lib.dreammover.suitability import Suitability
    from interp_lib.models.image_model import ImageModel
    from interp_lib.types import Pair

SHELLS = ("bash", "zsh", "tcsh")
SHOWN = {  # what is printed of a pair, and what it means
    "change": "difference of the images where they differ, of the range of colours",
    "residue": "what is left of it half-way, when the flows have been followed",
    "consistent": "share of the positions that come back from the other image",
    "smooth": "share that moves like its neighbours",
    "covered": "share of the frame half-way that something is splatted to",
    "displacement": "mean way of a position, of the diagonal",
}


def add_pairs(commands: Any) -> None:
    """`pairs`, which lists the bundled ones."""
    command = commands.add_parser("pairs", help="list the bundled image pairs", examples={"": "what can be named"})
    command.set_defaults(run=lambda args: _list())


def add_suitability(commands: Any, types: Any, add_model: Any) -> None:
    """`suitability`. types: the argument parsers of interp_lib.cli; add_model: what adds its model's options."""
    command = commands.add_parser(
        "suitability",
        help="is a pair likely to fail? A score before the run",
        description="Judge a pair before it is interpolated: a score from 0 (hopeless) to 1, and what speaks against "
        "the pair. It costs an inversion to the step of the features, a fraction of a run.",
        examples={"cat0.jpg cat1.jpg": "two images", "motorcycle --size 128": "a bundled pair"},
    )
    command.set_defaults(run=_judge)
    command.add_argument("input", nargs="+", help="two image files, or one folder, or one bundled pair")
    add_model(command.add_argument_group("model"))
    command.add_argument("--steps", type=types.count(2), default=50, metavar="N", help="steps of the noise schedule")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar, print the score alone")


def add_completion(commands: Any, parser: argparse.ArgumentParser) -> None:
    """`completion`, which prints a script that the shell reads."""
    command = commands.add_parser(
        "completion",
        help="print a script that lets the shell complete commands and options",
        description="Print the completion script of a shell, for the command `interp_lib` that the installation makes.",
        examples={"bash > ~/.local/share/bash-completion/completions/interp_lib": "once, for bash"},
    )
    command.add_argument("shell", choices=SHELLS, help="which shell")
    command.set_defaults(run=lambda args: _complete(parser, args.shell))


def read_pair(args: argparse.Namespace) -> Pair:
    """The pair that the command line names."""
    if len(args.input) > 2:
        raise ValueError(f"{len(args.input)} inputs were given: name two images, or one folder or bundled pair.")
    from interp_lib.pairs import load_pair

    return load_pair(args.input[0] if len(args.input) == 1 else tuple(args.input), size=args.size)


def load_model(args: argparse.Namespace) -> ImageModel:
    """The image model that the command line names."""
    from interp_lib import load_image_model

    return load_image_model(args.model, device=args.device, dtype=read_dtype(args.dtype))


def fit_pair(pair: Pair, model: ImageModel, args: argparse.Namespace) -> tuple[Tensor, list[str]]:
    """Both images [2,3,H,W] at the size asked for, or about the model's own area, and what was done to them."""
    import torch

    from interp_lib.images import area_size, fit_images

    own = area_size(*pair.image0.shape[-2:], side=model.native_size, multiple=model.multiple)
    images = torch.cat([pair.image0, pair.image1])
    return fit_images(images, size=None if args.size else own, multiple=model.multiple)


def warn(found: Suitability) -> None:
    """Before a run, on stderr: what speaks against the pair, if anything does."""
    if found.likely_to_fail:
        said = " ".join(found.reasons)
        print(f"interp_lib: warning: the pair's suitability is {found.score:.2f}: {said}", file=sys.stderr)


def _list() -> int:
    from interp_lib.pairs import describe_pairs

    for name, about in describe_pairs().items():
        print(f"{name:12} {about}")
    print(f"{'FOLDER':12} two images, or the frames of a clip (its first and last are the pair)")
    return 0


def _judge(args: argparse.Namespace) -> int:
    pair = read_pair(args)
    from interp_lib import suitability

    model = load_model(args)
    images, fitted = fit_pair(pair, model, args)
    how = {"steps": args.steps, "prompt": args.prompt, "progress": not args.quiet}
    found = suitability(model, images[:1], images[1:], **how)
    if args.quiet:
        print(f"{found.score:.2f}")
        return 0
    for note in [*pair.notes, *fitted]:
        print(f"note: {note}")
    for name, meaning in SHOWN.items():
        print(f"{getattr(found, name):5.2f}  {meaning}")
    for reason in found.reasons:
        print(f"against it: {reason}")
    print(f"suitability {found.score:.2f}: {'likely to fail' if found.likely_to_fail else 'nothing unusual'}")
    return 0


def _complete(parser: argparse.ArgumentParser, shell: str) -> int:
    try:
        shtab = import_module("shtab")
    except ImportError:
        raise ValueError("completion needs the package shtab: run `pip install shtab` first.") from None
    for action in _actions(parser):
        if action.dest in ("input", "clips", "output") or action.type is Path:
            action.complete = shtab.FILE
    parser.prog = "interp_lib"
    print(shtab.complete(parser, shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Of a parser and of its commands."""
    found = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for command in action.choices.values() for inner in _actions(command)]
    return found
