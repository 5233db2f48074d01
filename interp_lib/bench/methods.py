"""Every method of the benchmark by name. To add one, write a function like those in `baselines/` and a line here."""

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interp_lib.bench.baselines import clones, latents, pixels, pretrained
from interp_lib.bench.baselines.external import external, find_frames
from interp_lib.bench.baselines.papers import dreammover, generative_inbetweening
from interp_lib.checks import check_int
from interp_lib.types import Interpolation, Pair


@dataclass(frozen=True)
class Method:
    """A function `make(model, pair, *, frames, seed, ...) -> Interpolation` and what it is called with.

    kind: of its model, "image", "video", or None without one. options: keyword arguments that make this row what it
    is. files: environment variables with paths of the user's files that it reads. name: filled in by `find_method`. The
    result holds `frames` images between the pair's two, both keyframes with them, at the pair's size, on the CPU, and
    depends on the arguments alone.
    """

    make: Callable[..., Interpolation]
    kind: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    name: str = ""

    def takes(self) -> set[str]:
        """Return the names of its options, without `frames`, `seed` and the runner's own `scratch`."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name for p in parameters if p.kind == p.KEYWORD_ONLY} - {"frames", "seed", "scratch"}

    def brings(self, case: str) -> list[Path]:
        """Return the user's own files that its result on a case depends on: weights, frames of another tool."""
        if self.make is external:
            with suppress(ValueError, OSError):  # said when it is run
                return [find_frames(self.options["folder"], case)]
        return [path for name in self.files if (path := Path(os.environ.get(name, "."))).is_file()]

    def run(self, model: Any, pair: Pair, *, frames: int, seed: int, settings: dict[str, Any]) -> Interpolation:
        """Call `make` with its own options and those of the settings that it takes."""
        known = inspect.signature(self.make).parameters
        shared = {name: value for name, value in settings.items() if name in known}
        return self.make(model, pair, frames=frames, seed=seed, **(shared | self.options))


METHODS = {
    "truth": Method(pixels.truth),
    "shuffled": Method(pixels.shuffled),
    "nearest keyframe": Method(pixels.nearest_keyframe),
    "cross-dissolve": Method(pixels.cross_dissolve),
    "classical flow": Method(pixels.classical_flow),
    "latent lerp": Method(latents.lerp, "image"),
    "latent slerp": Method(latents.slerp, "image"),
    "direct fusion": Method(dreammover, "image", {"two_level": False, "attention": False, "lora": False}),
    "DiffInterp": Method(latents.diffinterp, "image"),
    "DiffMorpher": Method(latents.diffmorpher, "image"),
    "DreamMover": Method(dreammover, "image"),
    "DreamMover w/o our estimator": Method(dreammover, "image", {"flow": "classical"}),
    "DreamMover w/o two-level fusion": Method(dreammover, "image", {"two_level": False}),
    "DreamMover w/o replace attention": Method(dreammover, "image", {"attention": False}),
    "DreamMover w/o lora": Method(dreammover, "image", {"lora": False}),
    **{
        name: Method(generative_inbetweening, "video", {"method": name})
        for name in ("dual", "no-rotation", "no-finetune", "trf", "vibid", "forward")
    },
    "FILM": Method(pretrained.film, files=("INTERP_FILM",)),
    "RIFE": Method(pretrained.rife),
    "LDMVFI": Method(clones.ldmvfi, files=("INTERP_LDMVFI",)),
    "DynamiCrafter": Method(clones.dynamicrafter, files=("INTERP_DYNAMICRAFTER",)),
    "DreamMover with RAFT": Method(dreammover, "image", {"flow": "raft"}, files=("INTERP_RAFT",)),
    "Wan FLF2V": Method(pretrained.wan, files=("INTERP_WAN",)),
}
EXTERNAL = "external:"  # external:FOLDER measures frames that another tool has written


def run_method(name: str, model: Any, pair: Pair, *, frames: int = 7, seed: int = 0, **options: Any) -> Interpolation:
    """Run one method of the benchmark on one pair, as `benchmark` does: `frames` frames between, both keyframes added.

    model: of the kind the method needs (an image or a video model); without effect where it needs none. options: those
    of its function in `baselines/`. Raises ValueError for an unknown name and for another option.
    """
    method = find_method(name)
    if not isinstance(pair, Pair):
        raise ValueError(f"pair is a {type(pair).__name__}: give load_pair(...) or render_pair(...).")
    if unknown := sorted(set(options) - method.takes()):
        known = ", ".join(sorted(method.takes())) or "none"
        raise ValueError(f"{name} has no option {unknown[0]!r}: it takes {known}.")
    return method.run(model, pair, frames=check_int("frames", frames, 1), seed=seed, settings=options)


def find_method(name: str) -> Method:
    """Return a method by its name, or `external:FOLDER`; ValueError, with all names, for an unknown one."""
    if isinstance(name, str) and name.startswith(EXTERNAL):
        folder = name.removeprefix(EXTERNAL)
        if not os.path.isdir(os.path.expanduser(folder)):
            raise FileNotFoundError(f"{name!r}: there is no such folder, give one that holds a case's frames each.")
        return Method(external, options={"folder": folder}, name=name)
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"there is no method {name!r}: there are {', '.join(METHODS)}, and {EXTERNAL}FOLDER.")
    return replace(METHODS[name], name=name)
