"""All measures of one interpolation, by name: what each needs, and what it means when it has no value."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench import motion
from interp_lib.bench.metrics import AREA, SIDE, high_frequency_ratio, psnr, ssim
from interp_lib.bench.networks import Unavailable, perceptual_distance
from interp_lib.bench.set_metrics import features, fid, kid
from interp_lib.bench.warping import tvl1_flow, warping_errors
from interp_lib.checks import check_choice, check_tensors
from interp_lib.images import as_images

Flow = Callable[[int, int], Any]  # of frames i and j
NETS = {"lpips": "lpips-alex", "perceptual": "efficientnet-lite0", "feature": "inception"}  # network by its use


def evaluate(
    frames: Tensor,
    *,
    reference: Tensor | None = None,
    endpoints: Tensor | None = None,
    flow: Flow | str | None = None,
    moving: Tensor | None = None,
    ground: Tensor | None = None,
    facing: float = 0.0,
    metrics: str | Sequence[str] = "auto",
) -> dict[str, float | str]:
    """Measure an interpolation: {name: value}, over the frames between the keyframes unless the name says otherwise.

    frames: [T,3,H,W] in [0,1], keyframes included. reference: the true frames, likewise. endpoints: the two inputs
    [2,3,H,W], by default the first and last frame. flow: a function (i, j) -> flow [1,2,H,W] of frame i to frame j in
    pixels, or a tuple that begins with it, such as `Case.flow`; or "tvl1", estimated on the reference where there is
    one, on the frames otherwise. moving: bool [T,1,H,W], the pixels of each frame on which something moves. ground:
    [1,3,H,W], the scene without its foreground object. facing: +1 right, -1 left, 0 unknown.

    - `psnr` (dB), `ssim`, `psnr_moving` (on `moving`): against the reference, the mean over the frames.
    - `we`: over all neighbours; `we_mid`: frame T//2 against the keyframes; each also times 100, as `we_x100`.
    - `high_frequency`, `high_frequency_side`: ratio to the keyframes', the centre a quarter of the area, of the side.
    - `direction` (share of steps along `facing`), `net_displacement` (px along it), `back_and_forth`: of the object's
      track over `ground`, in all frames; `spread`: its width over its true width, large where there are two ghosts.
    - `lpips`, `lpips_ends` (to both keyframes, not to the reference), `ppl`, `pdv` (all neighbours): LPIPS on AlexNet;
      `perceptual`, `perceptual_ends`, `perceptual_ppl`, `perceptual_pdv`: the same by EfficientNet-Lite0; not LPIPS.
    - `fid`, `kid`: against the reference, by Inception. So few frames bias FID: `set_distances` pools many clips.

    metrics: names, or "auto", all that the arguments allow and that need no network. The result also has `n`, the
    number of frames between, and `we_flow`, `lpips_net`, `perceptual_net`, `feature_net` where they were used. What
    this machine or this clip cannot have is a string, "n/a: " and why. Raises ValueError for unknown names, for a
    measure whose argument is missing, and for arguments that do not fit.
    """
    inputs = _check_inputs(frames, reference, endpoints, flow, moving, ground, facing)
    values: dict[str, float | str] = {"n": len(inputs.between)}
    for name in _choose(check_metrics(metrics), inputs):
        measure = MEASURES[name]
        try:
            value = float(measure.compute(inputs))
            values[name] = f"n/a: {measure.empty}" if math.isnan(value) else value
        except Unavailable as error:
            values[name] = error.cell
        if "flow" in measure.needs:
            estimated = f"tvl1 of the {'frames' if reference is None else 'reference'}"
            values |= {f"{name}_x100": 100 * value, "we_flow": "given" if callable(flow) else estimated}
        if measure.net:
            values[f"{measure.net}_net"] = NETS[measure.net]
    return values


@dataclass
class Inputs:
    """What the measures look at, as checked by `evaluate`; None where it is unknown. ends: the two inputs."""

    frames: Tensor
    ends: Tensor
    reference: Tensor | None
    moving: Tensor | None
    ground: Tensor | None
    facing: float | None
    flow: Flow | None

    def __post_init__(self) -> None:
        self.between, self.true = (None if x is None else x[1:-1] for x in (self.frames, self.reference))
        self.track = None if self.ground is None else motion.actor_track(self.frames.cpu(), self.ground.cpu())

    def flows(self, *pairs: tuple[int, int]) -> Tensor:
        """Return the flow of each pair of frames, [K,2,H,W]; ValueError where `flow` returns something else."""
        shape, stack = (1, 2, *self.frames.shape[-2:]), []
        for i, j in pairs:
            flow = self.flow(i, j)
            flow = flow[0] if isinstance(flow, tuple) else flow
            if not isinstance(flow, Tensor) or flow.shape != shape or not bool(torch.isfinite(flow).all()):
                got = tuple(flow.shape) if isinstance(flow, Tensor) else type(flow).__name__
                raise ValueError(f"flow({i}, {j}) gave {got}: it must be a finite flow {shape}, in pixels.")
            stack.append(flow.to(self.frames))
        return torch.cat(stack)


@dataclass(frozen=True)
class Measure:
    """needs: arguments of `evaluate` it cannot do without; net: use of a network; empty: what a NaN means."""

    compute: Callable[[Inputs], float | Tensor]
    needs: tuple[str, ...] = ()
    net: str = ""
    empty: str = "undefined"


def _psnr_moving(x: Inputs) -> Tensor:
    masks = x.moving[1:-1]
    some = masks.flatten(1).any(1)  # frames in which anything moves
    return psnr(x.between[some], x.true[some], masks[some]).mean()


def _we(x: Inputs) -> Tensor:
    steps = [(t, t + 1) for t in range(len(x.frames) - 1)]
    flows, backward = x.flows(*steps), x.flows(*[(j, i) for i, j in steps])
    return warping_errors(x.frames[:-1], x.frames[1:], flows, backward).mean()


def _we_mid(x: Inputs) -> Tensor:
    last, mid = len(x.frames) - 1, len(x.frames) // 2
    flows, backward = x.flows((mid, 0), (mid, last)), x.flows((0, mid), (last, mid))
    return warping_errors(x.frames[mid : mid + 1].expand_as(x.ends), x.ends, flows, backward).mean()


def _net_displacement(x: Inputs) -> float:
    return math.nan if x.track.diff(dim=0).isnan().all() else motion.net_displacement(x.track, x.facing)


def _spread(x: Inputs) -> Tensor:
    widths, true = (motion.actor_spread(frames.cpu(), x.ground.cpu()) for frames in (x.between, x.true))
    return (widths / true).nanmean()


def _features(x: Inputs) -> list[Tensor]:
    return [features(frames, net=NETS["feature"]) for frames in (x.between, x.true)]


def _perceptual(net: str, prefix: str) -> dict[str, Measure]:
    def distance(first: Tensor, second: Tensor) -> Tensor:
        return perceptual_distance(first, second, net=NETS[net])

    def to_ends(x: Inputs) -> Tensor:
        ends = torch.cat([end.expand_as(x.between) for end in x.ends.split(1)])
        return distance(x.between.repeat(2, 1, 1, 1), ends).mean()

    return {
        net: Measure(lambda x: distance(x.between, x.true).mean(), ("reference",), net),
        f"{net}_ends": Measure(to_ends, (), net),
        f"{prefix}ppl": Measure(lambda x: distance(x.frames[:-1], x.frames[1:]).sum(), (), net),
        f"{prefix}pdv": Measure(lambda x: distance(x.frames[:-1], x.frames[1:]).var(correction=0), (), net),
    }


FLAT, STILL = "the endpoints have no high frequencies", "no actor is seen to move"
MEASURES = {
    "psnr": Measure(lambda x: psnr(x.between, x.true).mean(), ("reference",)),
    "psnr_moving": Measure(_psnr_moving, ("reference", "moving"), empty="nothing moves"),
    "ssim": Measure(lambda x: ssim(x.between, x.true).mean(), ("reference",)),
    "we": Measure(_we, ("flow",)),
    "we_mid": Measure(_we_mid, ("flow",)),
    "high_frequency": Measure(lambda x: high_frequency_ratio(x.between, x.ends, centre=AREA).mean(), empty=FLAT),
    "high_frequency_side": Measure(lambda x: high_frequency_ratio(x.between, x.ends, centre=SIDE).mean(), empty=FLAT),
    "direction": Measure(lambda x: motion.direction_accuracy(x.track, x.facing), ("ground", "facing"), empty=STILL),
    "net_displacement": Measure(_net_displacement, ("ground", "facing"), empty=STILL),
    "back_and_forth": Measure(lambda x: motion.back_and_forth(x.track), ("ground",), empty=STILL),
    "spread": Measure(_spread, ("ground", "reference"), empty=STILL),
    **_perceptual("lpips", ""),
    **_perceptual("perceptual", "perceptual_"),
    "fid": Measure(lambda x: fid(*_features(x)), ("reference",), "feature"),
    "kid": Measure(lambda x: kid(*_features(x)), ("reference",), "feature"),
}


def check_metrics(metrics: str | Sequence[str]) -> list[str]:
    """Return the names in `metrics` as a list, "auto" among them as it is; ValueError for one that does not exist."""
    names = list(metrics) if isinstance(metrics, Iterable) and not isinstance(metrics, str) else [metrics]
    if "fvd" in names:
        raise ValueError("fvd compares two sets of clips: collect them and call `set_metrics.fvd`.")
    for name in names:
        check_choice("metrics", name, ["auto", *MEASURES])
    return names


def _choose(metrics: list[str], inputs: Inputs) -> list[str]:
    """Return the measures to take; ValueError for one that lacks an argument."""
    lacking = {name: [f"{x}=" for x in m.needs if getattr(inputs, x) is None] for name, m in MEASURES.items()}
    auto = [name for name, measure in MEASURES.items() if not measure.net and not lacking[name]]
    names = dict.fromkeys(name for entry in metrics for name in (auto if entry == "auto" else [entry]))
    for name in names:
        if lacking[name]:
            raise ValueError(f"{name} needs {' and '.join(lacking[name])}: give it, or leave {name} out.")
    return list(names)


def _check_inputs(
    frames: Any, reference: Any, endpoints: Any, flow: Any, moving: Any, ground: Any, facing: Any
) -> Inputs:
    frames = as_images(frames, name="frames").detach()
    count, size = len(frames), tuple(frames.shape[-2:])
    if count < 3:
        raise ValueError(f"frames holds {count} images: give both ends and at least one frame between them.")

    def images(name: str, x: Any, number: int) -> Tensor | None:
        x = None if x is None else as_images(x, name=name).detach().to(frames.device)
        if x is not None and x.shape != (number, 3, *size):
            raise ValueError(f"{name} has shape {tuple(x.shape)}: it must be {(number, 3, *size)}.")
        return x

    reference, ground = images("reference", reference, count), images("ground", ground, 1)
    ends = frames[[0, -1]] if endpoints is None else images("endpoints", endpoints, 2)
    if moving is not None:
        check_tensors(moving=moving)
        if moving.shape != (count, 1, *size) or moving.dtype != torch.bool:
            given = f"{moving.dtype} {tuple(moving.shape)}"
            raise ValueError(f"moving is {given}: it must be torch.bool {(count, 1, *size)}, one mask a frame.")
        moving = moving.to(frames.device)
    if facing not in (-1, 0, 1):
        raise ValueError(f"facing={facing!r} is out of range: give 1 for right, -1 for left, 0 where it is unknown.")
    if not (flow is None or callable(flow) or (isinstance(flow, str) and flow == "tvl1")):
        raise ValueError(f"flow={flow!r} is unknown: give a function of two frame numbers, 'tvl1', or None.")
    clip = (frames if reference is None else reference).split(1)
    flow = (lambda i, j: tvl1_flow(clip[i], clip[j])) if flow == "tvl1" else flow
    return Inputs(frames, ends, reference, moving, ground, float(facing) if facing else None, flow)
