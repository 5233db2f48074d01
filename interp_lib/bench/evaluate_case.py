"""What a benchmark measures on the result of one method on one case."""

from typing import Any

import torch

from interp_lib.bench.cases import Case
from interp_lib.bench.evaluate import evaluate
from interp_lib.bench.metrics import end_point_error, pck, resize_flow
from interp_lib.types import Interpolation


def evaluate_case(result: Interpolation, case: Case, *, frames: int, metrics: Any) -> dict[str, Any]:
    """Return the measures of a method's result on a case, rounded to six digits, and its notes.

    Warping errors take the true flow where the case has one, else TV-L1. epe, pck: of the flow that the method used, on
    the visible foreground pixels, where both it and the truth are known: end-point error in image pixels, and the share
    within a tenth of the longer side.
    Raises ValueError for a result with another number or size of frames than (frames + 2, 3, H, W), or with values that
    are not finite.
    """
    images, pair = result.frames.float().cpu(), case.pair
    expected = (frames + 2, *pair.image0.shape[1:])
    if tuple(images.shape) != expected or not bool(torch.isfinite(images).all()):
        raise ValueError(f"a method must return finite frames {expected}, both ends included: got {images.shape}.")
    keyframes, truth = torch.cat([pair.image0, pair.image1]), {"reference": pair.frames, "flow": case.flow or "tvl1"}
    known = {"moving": case.moving, "ground": case.ground, "facing": case.facing}
    values = evaluate(images, endpoints=keyframes, metrics=metrics, **truth, **known)
    flows = (result.flow01, pair.flow01, pair.visible01, pair.actor0)
    if all(x is not None for x in flows) and (counted := pair.visible01 & pair.actor0).any():
        used = resize_flow(result.flow01.float().cpu(), tuple(pair.flow01.shape[-2:]))
        values["epe"] = float(end_point_error(used, pair.flow01)[counted].mean())
        values["pck"] = pck(used, pair.flow01, counted)
    values["unet_calls"] = result.unet_calls
    return round_digits(values) | {"notes": " ".join([*pair.notes, *result.notes])}


def round_digits(row: dict[str, Any]) -> dict[str, Any]:
    """Round the floats of a row to six significant digits: what two machines agree on, and files stay small."""
    return {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in row.items()}
