"""The measures of one interpolation by name: what each needs, and when it has no value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench import motion
from interp_lib.bench.measures import distributions, frequency, perceptual, structure, warping
from interp_lib.bench.metrics import psnr

Flow = Callable[[int, int], Any]  # of frames i, j: flow [1,2,H,W], or a tuple that begins with it


@dataclass
class Given:
    """What the measures look at, checked by `evaluate`. ends: the two inputs; nets: by what they are used for."""

    frames: Tensor
    ends: Tensor
    reference: Tensor | None
    moving: Tensor | None
    ground: Tensor | None
    facing: float
    flow: Flow | None
    nets: dict[str, Any]
    shared: dict[str, Any] = field(default_factory=dict)  # what two measures share, made once

    @property
    def between(self) -> Tensor:
        return self.frames[1:-1]

    @property
    def true(self) -> Tensor:
        return self.reference[1:-1]

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def flows(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        return torch.cat([self._flow_of(i, j) for i, j in pairs])

    def track(self) -> Tensor:
        return self.once("track", lambda: motion.actor_track(self.frames.cpu(), self.ground.cpu()))

    def neighbours(self, use: str) -> Tensor:
        make = perceptual.neighbour_distances
        return self.once(f"{use} neighbours", lambda: make(self.frames, net=self.nets[use]))

    def features(self) -> tuple[Tensor, Tensor]:
        make, net = distributions.features, self.nets["feature"]
        return self.once("features", lambda: (make(self.between, net=net), make(self.true, net=net)))

    def _flow_of(self, i: int, j: int) -> Tensor:
        found = self.flow(i, j)
        found = found[0] if isinstance(found, (tuple, list)) else found
        shape = (1, 2, *self.frames.shape[-2:])
        if not isinstance(found, Tensor) or tuple(found.shape) != shape or not bool(torch.isfinite(found).all()):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"flow({i}, {j}) gave {what}: it must be a finite flow {shape} in pixels of the frames.")
        return found.to(self.frames)


@dataclass(frozen=True)
class Measure:
    """needs: the arguments without which there is none; net: what it asks a network for; empty: what a NaN means."""

    measure: Callable[[Given], float | Tensor]
    needs: tuple[str, ...] = ()
    net: str = ""
    empty: str = "undefined"


def _psnr_moving(given: Given) -> Tensor:
    """The mean over the frames in which anything moves."""
    masks = given.moving[1:-1]
    some = masks.flatten(1).any(1)
    return psnr(given.between[some], given.true[some], masks[some]).mean()


def _we(given: Given) -> float:
    steps = [(t, t + 1) for t in range(len(given.frames) - 1)]
    return warping.warping_error(given.frames, given.flows(steps), given.flows([(j, i) for i, j in steps]))


def _we_mid(given: Given) -> float:
    last, mid = len(given.frames) - 1, len(given.frames) // 2
    there, back = given.flows([(mid, 0), (mid, last)]), given.flows([(0, mid), (last, mid)])
    return warping.warping_error_middle(given.frames[mid : mid + 1], given.ends, there, back)


def _net_displacement(given: Given) -> float:
    known = not motion.steps_along(given.track(), 1.0).isnan().all()
    return motion.net_displacement(given.track(), given.facing) if known else math.nan


def _spread(given: Given) -> Tensor:
    made, true = (motion.actor_spread(x.cpu(), given.ground.cpu()) for x in (given.between, given.true))
    return (made / true).nanmean()


def _high_frequency(centre: float) -> Measure:
    flat = "the endpoints have no high frequencies"
    return Measure(lambda g: frequency.high_frequency_ratio(g.between, g.ends, centre=centre).mean(), empty=flat)


def _to_truth(use: str) -> Measure:
    compare = perceptual.perceptual_distance
    return Measure(lambda g: compare(g.between, g.true, net=g.nets[use]).mean(), ("reference",), use)


def _to_ends(use: str) -> Measure:
    def measure(given: Given) -> Tensor:
        both = [end.expand_as(given.between) for end in given.ends.split(1)]
        return perceptual.perceptual_distance(
            given.between.repeat(2, 1, 1, 1), torch.cat(both), net=given.nets[use]
        ).mean()

    return Measure(measure, (), use)


_ACTOR = "no actor is seen to move"
MEASURES = {
    "psnr": Measure(lambda g: psnr(g.between, g.true).mean(), ("reference",)),
    "psnr_moving": Measure(_psnr_moving, ("reference", "moving"), empty="nothing moves"),
    "ssim": Measure(lambda g: structure.ssim(g.between, g.true).mean(), ("reference",)),
    "we": Measure(_we, ("flow",)),
    "we_mid": Measure(_we_mid, ("flow",)),
    "high_frequency": _high_frequency(frequency.AREA),
    "high_frequency_side": _high_frequency(frequency.SIDE),
    "direction": Measure(lambda g: motion.direction_accuracy(g.track(), g.facing), ("ground", "facing"), empty=_ACTOR),
    "net_displacement": Measure(_net_displacement, ("ground", "facing"), empty=_ACTOR),
    "back_and_forth": Measure(lambda g: motion.back_and_forth(g.track()), ("ground",), empty=_ACTOR),
    "spread": Measure(_spread, ("ground", "reference"), empty=_ACTOR),
    "lpips": _to_truth("lpips"),
    "lpips_ends": _to_ends("lpips"),
    "ppl": Measure(lambda g: perceptual.path_length(g.neighbours("lpips")), (), "lpips"),
    "pdv": Measure(lambda g: perceptual.distance_variance(g.neighbours("lpips")), (), "lpips"),
    "perceptual": _to_truth("perceptual"),
    "perceptual_ends": _to_ends("perceptual"),
    "perceptual_ppl": Measure(lambda g: perceptual.path_length(g.neighbours("perceptual")), (), "perceptual"),
    "perceptual_pdv": Measure(lambda g: perceptual.distance_variance(g.neighbours("perceptual")), (), "perceptual"),
    "fid": Measure(lambda g: distributions.fid(*g.features()), ("reference",), "feature"),
    "kid": Measure(lambda g: distributions.kid(*g.features()), ("reference",), "feature"),
}
