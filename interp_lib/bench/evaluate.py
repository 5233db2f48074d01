"""All measures of one interpolation, by name: what it takes, what it gives, and what this machine cannot have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from interp_lib.bench.measures import Unavailable, distributions, perceptual
from interp_lib.bench.measures.catalogue import MEASURES, Flow, Given, Measure
from interp_lib.bench.optical_flow import tvl1_flow
from interp_lib.checks import check_choice, check_tensors
from interp_lib.images import as_images


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
    lpips_net: str = "lpips-alex",
    perceptual_net: str | perceptual.Maps = "efficientnet-lite0",
    feature_net: str | distributions.Features = "inception",
) -> dict[str, float | str]:
    """Measures of an interpolation, {name: value}, on the frames between its ends unless the name says otherwise.

    Source: METHODS, section 5; the formulas are in `interp_lib.bench.measures`, `metrics` and `motion`.
    frames: [T,3,H,W] in [0,1] with both ends. reference: the true frames, likewise. endpoints: the two inputs
    [2,3,H,W], by default the first and last frame. flow: a function (i, j) -> flow [1,2,H,W] of frame i to frame j in
    pixels, or a tuple that begins with it, such as `Case.flow`; or "tvl1", estimated on the reference where there is
    one, on the frames otherwise. moving: bool [T,1,H,W], the pixels of each frame on which something moves. ground:
    [1,3,H,W], the scene without its actor. facing: +1 right, -1 left, 0 unknown.

    - `psnr` (dB), `ssim`, `psnr_moving` (on `moving`): against the reference, the mean over the frames.
    - `we`: over all neighbours; `we_mid`: frame T//2 against the endpoints; each also times 100, as `we_x100`.
    - `high_frequency`, `high_frequency_side`: ratio to the endpoints', the centre a quarter of the area, of the side.
    - `direction` (share of steps along `facing`), `net_displacement` (px along it), `back_and_forth`: the actor's track
      over `ground`, in all frames; `spread`: its width over its true width, where two ghosts are wide.
    - `lpips`, `lpips_ends` (to both endpoints, not to the reference), `ppl`, `pdv` (all neighbours): by `lpips_net`.
    - `perceptual`, `perceptual_ends`, `perceptual_ppl`, `perceptual_pdv`: the same by `perceptual_net`; not LPIPS.
    - `fid`, `kid`: the frames against the reference's, by `feature_net`. So few frames bias FID: pool the frames of
      many clips and use `measures.distributions` for a table.

    metrics: names, or "auto", all that the arguments allow and that need no network. The result also has `n`, the
    number of frames between, and `we_flow`, `lpips_net`, `perceptual_net`, `feature_net` where they were used. What
    this machine or this clip cannot have is a string, "n/a: " and why. PSNR is infinite for equal frames.
    Raises ValueError for unknown names, for a measure whose argument is missing, and for arguments that do not fit.
    """
    nets = {"lpips": lpips_net, "perceptual": perceptual_net, "feature": feature_net}
    _check_nets(nets)
    given = _check(frames, reference, endpoints, flow, moving, ground, facing, nets)
    values: dict[str, float | str] = {"n": len(given.between)}
    for name in _chosen(metrics, given):
        measure = MEASURES[name]
        values[name] = _value(measure, given)
        if "flow" in measure.needs:
            values |= {f"{name}_x100": 100 * values[name], "we_flow": _flow_name(flow, reference)}
        if measure.net:
            values[f"{measure.net}_net"] = _net_name(nets[measure.net])
    return values


def _value(measure: Measure, given: Given) -> float | str:
    try:
        value = float(measure.measure(given))
    except Unavailable as error:
        return error.cell
    return f"n/a: {measure.empty}" if math.isnan(value) else value


def _chosen(metrics: str | Sequence[str], given: Given) -> list[str]:
    """The measures to take; ValueError for one that does not exist or lacks an argument."""
    auto = [name for name, measure in MEASURES.items() if not measure.net and not _lacking(measure, given)]
    asked = check_metrics(metrics)
    names = list(dict.fromkeys(name for entry in asked for name in (auto if entry == "auto" else [entry])))
    for name in names:
        if lacking := _lacking(MEASURES[name], given):
            raise ValueError(f"{name} needs {' and '.join(f'{x}=' for x in lacking)}: give it, or leave {name} out.")
    return names


def check_metrics(metrics: str | Sequence[str]) -> list[str]:
    """The names in `metrics` as a list, "auto" among them as it is; ValueError for one that does not exist."""
    names = list(metrics) if isinstance(metrics, Iterable) and not isinstance(metrics, str) else [metrics]
    for name in names:
        if name == "fvd":
            raise ValueError("fvd compares two sets of clips: collect them and call measures.distributions.fvd.")
        check_choice("metrics", name, ["auto", *MEASURES])
    return names


def _lacking(measure: Measure, given: Given) -> list[str]:
    return [x for x in measure.needs if getattr(given, x) is None or (x == "facing" and given.facing == 0)]


def _check(
    frames: Tensor,
    reference: Tensor | None,
    endpoints: Tensor | None,
    flow: Flow | str | None,
    moving: Tensor | None,
    ground: Tensor | None,
    facing: float,
    nets: dict[str, Any],
) -> Given:
    """Everything that can be wrong, before any slow work."""
    frames = as_images(frames, name="frames").detach()
    if len(frames) < 3:
        raise ValueError(f"frames holds {len(frames)} images: give both ends and at least one frame between them.")
    count, size = len(frames), tuple(frames.shape[-2:])
    if reference is not None:
        reference = _like(
            "reference", reference, frames, (count, 3, *size), "one true image a frame, both ends included"
        )
    ends = frames[[0, -1]]
    if endpoints is not None:
        ends = _like("endpoints", endpoints, frames, (2, 3, *size), "the two inputs at the frames' size")
    if ground is not None:
        ground = _like("ground", ground, frames, (1, 3, *size), "one image at the frames' size")
    if moving is not None:
        check_tensors(moving=moving)
    if moving is not None and (tuple(moving.shape) != (count, 1, *size) or moving.dtype != torch.bool):
        found = f"{moving.dtype} {tuple(moving.shape)}"
        raise ValueError(f"moving is {found}: it must be torch.bool {(count, 1, *size)}, one mask a frame.")
    if facing not in (-1, 0, 1):
        raise ValueError(f"facing={facing!r} is out of range: give 1 for right, -1 for left, 0 where it is unknown.")
    if isinstance(flow, str) and flow == "tvl1":
        pictures = frames if reference is None else reference
        flow = partial(_estimated, pictures)
    elif flow is not None and not callable(flow):
        raise ValueError(f"flow={flow!r} is unknown: give a function of two frame numbers, 'tvl1', or None.")
    moving = None if moving is None else moving.to(frames.device)
    return Given(frames, ends, reference, moving, ground, float(facing), flow, nets)


def _estimated(pictures: Tensor, i: int, j: int) -> Tensor:
    return tvl1_flow(pictures[i : i + 1], pictures[j : j + 1])


def _like(name: str, x: Tensor, frames: Tensor, shape: tuple[int, ...], rule: str) -> Tensor:
    """An argument of images of this shape, on the device of the frames."""
    x = as_images(x, name=name).detach().to(frames.device)
    if tuple(x.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: it must be {shape}, {rule}.")
    return x


def _check_nets(nets: dict[str, Any]) -> None:
    lpips = [net for net in perceptual.NETS if net.startswith("lpips-")]
    for use, known in (("lpips", lpips), ("perceptual", perceptual.NETS), ("feature", distributions.NETS)):
        if use == "lpips" or not callable(nets[use]):
            check_choice(f"{use}_net", nets[use], known)


def _flow_name(flow: Flow | str, reference: Tensor | None) -> str:
    if not isinstance(flow, str):
        return "given"
    return "tvl1 of the frames" if reference is None else "tvl1 of the reference"


def _net_name(net: Any) -> str:
    return net if isinstance(net, str) else getattr(net, "__name__", type(net).__name__)
