"""What a benchmark measures on the result of one method on one case."""

from __future__ import annotations

from typing import Any

import torch

from interp_lib.bench.cases import Case
from interp_lib.bench.evaluate import evaluate
from interp_lib.bench.metrics import end_point_error, pck, resize_flow
from interp_lib.types import Interpolation


def evaluate_case(result: Interpolation, case: Case, *, frames: int, metrics: Any) -> dict[str, Any]:
    """Return the measures of a result, rounded to six digits, and its notes.

    Warping errors take the true flow where the case has one, else TV-L1 on the true frames or on the result's
    (`we_flow` says which). epe, pck: of the flow that the method used, on the visible actor pixels, where both it and
    the truth are known: end-point error in image pixels, and the share within a tenth of the longer side.
    Raises ValueError for a result with another number or size of frames than (frames + 2, 3, H, W), or with values that
    are not finite.
    """
    images, pair = result.frames.float().cpu(), case.pair
    expected = (frames + 2, *pair.image0.shape[1:])
    if tuple(images.shape) != expected or not bool(torch.isfinite(images).all()):
        raise ValueError(f"a method must return finite frames {expected}, both ends included: got {images.shape}.")
    values = evaluate(
        images,
        reference=pair.frames,
        endpoints=torch.cat([pair.image0, pair.image1]),
        flow=case.flow or "tvl1",
        moving=case.moving,
        ground=case.ground,
        facing=case.facing,
        metrics=metrics,
    )
    values |= _evaluate_flow(result, case) | {"unet_calls": result.unet_calls}
    return round_digits(values) | {"notes": " ".join([*pair.notes, *result.notes])}


def round_digits(row: dict[str, Any]) -> dict[str, Any]:
    """Round the floats of a row to six significant digits: what two machines agree on, and files stay small."""
    return {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in row.items()}


def _evaluate_flow(result: Interpolation, case: Case) -> dict[str, float]:
    pair = case.pair
    if result.flow01 is None or pair.flow01 is None or pair.visible01 is None or pair.actor0 is None:
        return {}
    counted = pair.visible01 & pair.actor0
    if not counted.any():
        return {}
    flow = resize_flow(result.flow01.float().cpu(), tuple(pair.flow01.shape[-2:]))
    error = float(end_point_error(flow, pair.flow01)[counted].mean())
    return {"epe": error, "pck": pck(flow, pair.flow01, counted)}
