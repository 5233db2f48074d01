"""What a benchmark measures on one result."""

from __future__ import annotations

from typing import Any

import torch

from interp_lib.bench.cases import Case
from interp_lib.bench.evaluate import evaluate
from interp_lib.bench.metrics import end_point_error, pck, resize_flow
from interp_lib.types import Interpolation


def score(made: Interpolation, case: Case, *, frames: int, metrics: Any) -> dict[str, Any]:
    """The measures of a result, six digits each, and what was said on the way.

    Warping errors take the true flow where the case has one, else TV-L1 on the true frames, or on the made ones
    (`we_flow` says which). epe, pck: of the flow that the method went by, on visible actor pixels, where both it and
    the truth are known (the flow error in px of the image; the share within a tenth of the longer side).
    Raises ValueError for a result of another number or size of frames, or with values that are not finite.
    """
    pictures, pair = made.frames.float().cpu(), case.pair
    expected = (frames + 2, *pair.image0.shape[1:])
    if tuple(pictures.shape) != expected or not bool(torch.isfinite(pictures).all()):
        raise ValueError(f"a method must return finite frames {expected}, both ends included: got {pictures.shape}.")
    values = evaluate(
        pictures,
        reference=pair.frames,
        endpoints=torch.cat([pair.image0, pair.image1]),
        flow=case.flow or "tvl1",
        moving=case.moving,
        ground=case.ground,
        facing=case.facing,
        metrics=metrics,
    )
    values |= _flow_values(made, case) | {"unet_calls": made.unet_calls}
    rounded = {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in values.items()}
    return rounded | {"notes": " ".join([*pair.notes, *made.notes])}


def _flow_values(made: Interpolation, case: Case) -> dict[str, float]:
    pair = case.pair
    if made.flow01 is None or pair.flow01 is None or pair.visible01 is None or pair.actor0 is None:
        return {}
    asked = pair.visible01 & pair.actor0
    if not asked.any():
        return {}
    flow = resize_flow(made.flow01.float().cpu(), tuple(pair.flow01.shape[-2:]))
    return {"epe": float(end_point_error(flow, pair.flow01)[asked].mean()), "pck": pck(flow, pair.flow01, asked)}
