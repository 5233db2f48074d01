"""Every method of the benchmark by name. To add one: a file in `baselines/`, of which nearest.py is a short one to
start from, and a line here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from interp_lib.checks import check_int
from interp_lib.types import Interpolation, Pair

# name -> (file in interp_lib/bench/baselines, options of its make())
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "truth": ("controls", {"way": "truth"}),
    "shuffled": ("controls", {"way": "shuffled"}),
    "nearest keyframe": ("nearest", {}),
    "cross-dissolve": ("cross_dissolve", {}),
    "classical flow": ("classical_flow", {}),
    "latent lerp": ("latent_mix", {"way": "lerp"}),
    "latent slerp": ("latent_mix", {"way": "slerp"}),
    "direct fusion": ("dreammover", {"two_level": False, "attention": False, "lora": False}),
    "DiffInterp": ("diffinterp", {}),
    "DiffMorpher": ("diffmorpher", {}),
    "DreamMover": ("dreammover", {}),
    "DreamMover w/o our estimator": ("dreammover", {"flow": "classical"}),
    "DreamMover w/o two-level fusion": ("dreammover", {"two_level": False}),
    "DreamMover w/o replace attention": ("dreammover", {"attention": False}),
    "DreamMover w/o lora": ("dreammover", {"lora": False}),
    "dual": ("generative_inbetweening", {"method": "dual"}),
    "no-rotation": ("generative_inbetweening", {"method": "no-rotation"}),
    "no-finetune": ("generative_inbetweening", {"method": "no-finetune"}),
    "trf": ("generative_inbetweening", {"method": "trf"}),
    "vibid": ("generative_inbetweening", {"method": "vibid"}),
    "forward": ("generative_inbetweening", {"method": "forward"}),
    "FILM": ("film", {}),
    "RIFE": ("rife", {}),
    "LDMVFI": ("ldmvfi", {}),
    "DynamiCrafter": ("dynamicrafter", {}),
    "DreamMover with RAFT": ("raft", {}),
    "Wan FLF2V": ("wan", {}),
}
EXTERNAL = "external:"  # external:FOLDER scores frames that another tool has written


@dataclass(frozen=True)
class Method:
    """A method ready to be called: `run(model, pair, frames=, seed=)`, where model is of the kind `kind`.

    module: the dotted name of its code. options: what its `make` gets besides.
    """

    name: str
    module: str
    kind: str | None
    make: Callable[..., Interpolation]
    options: dict[str, Any] = field(default_factory=dict)

    def takes(self) -> set[str]:
        """Names of the options that its `make` has, besides `frames`, `seed` and the runner's own `scratch`."""
        named = [p.name for p in inspect.signature(self.make).parameters.values() if p.kind == p.KEYWORD_ONLY]
        return set(named) - {"frames", "seed", "scratch"}

    def brings(self, case: str, options: dict[str, Any]) -> list[Path]:
        """The user's own files that it reads for a case (weights, frames of another tool); none that are not there."""
        if self.module.endswith(".external"):
            with suppress(ValueError, OSError):  # said when the item is made
                return import_module(self.module).find_frames(self.options["folder"], case)
        find, found = import_module(f"{__package__}.baselines._weights").find, []
        for need in getattr(import_module(self.module), "NEEDS", ()):
            with suppress(ValueError, OSError):
                found.append(find(need, options.get(need.option)))
        return found

    def run(self, model: Any, pair: Pair, *, frames: int, seed: int, settings: dict[str, Any]) -> Interpolation:
        """`make` with its own options and those of the settings that it takes."""
        known = {*self.takes(), "scratch"} & set(inspect.signature(self.make).parameters)
        shared = {name: value for name, value in settings.items() if name in known}
        return self.make(model, pair, frames=frames, seed=seed, **(shared | self.options))


def run_method(name: str, model: Any, pair: Pair, *, frames: int = 7, seed: int = 0, **options: Any) -> Interpolation:
    """One method of the benchmark on one pair, as `benchmark` runs it: `frames` frames between, both ends added.

    model: of the kind the method asks for (an image or a video model); without effect where it asks for none.
    options: those of its `make` in `baselines/`. Raises ValueError for an unknown name and for another option.
    """
    method = find_method(name)
    if not isinstance(pair, Pair):
        raise ValueError(f"pair is a {type(pair).__name__}: give load_pair(...) or render_pair(...).")
    if unknown := sorted(set(options) - method.takes()):
        raise ValueError(
            f"{name} has no option {unknown[0]!r}: it takes {', '.join(sorted(method.takes())) or 'none'}."
        )
    return method.run(model, pair, frames=check_int("frames", frames, 1), seed=seed, settings=options)


def find_method(name: str) -> Method:
    """A method by its name, or `external:FOLDER`; ValueError, with all names, for an unknown one."""
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no name of a method: there are {', '.join(METHODS)}, and {EXTERNAL}FOLDER.")
    if name.startswith(EXTERNAL):
        file, options = "external", {"folder": name.removeprefix(EXTERNAL)}
        if not os.path.isdir(os.path.expanduser(options["folder"])):
            raise FileNotFoundError(f"{name!r}: there is no such folder, give one that holds a case's frames each.")
    elif name in METHODS:
        file, options = METHODS[name]
    else:
        raise ValueError(f"there is no method {name!r}: there are {', '.join(METHODS)}, and {EXTERNAL}FOLDER.")
    module = f"{__package__}.baselines.{file}"
    code = import_module(module)
    return Method(name, module, code.MODEL, code.make, options)
