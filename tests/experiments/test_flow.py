"""The study of flows: its turned pairs turn by what they say, and its rows are about what they name."""

import math

import pytest
import torch

from experiments.studies.flow import estimates, study_pair
from experiments.studies.flow import flow as study
from interp_lib.bench.metrics import end_point_error, pck


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
def test_a_turned_pair_turns_by_its_amount(angle):
    """Inside an actor of an easy pair the way from image 0 to image 1 is a turn and a shift, so its derivative is R."""
    pair = study_pair("turn", 2, angle, size=96)
    inside = -torch.nn.functional.max_pool2d(-pair.actor0.float(), 5, 1, 2) > 0.5
    y, x = inside[0, 0].nonzero().float().mean(0).round().long().tolist()  # the middle of the only actor
    flow = pair.flow01[0]
    slope = torch.stack([flow[:, y, x + 1] - flow[:, y, x], flow[:, y + 1, x] - flow[:, y, x]], 1) + torch.eye(2)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    assert torch.allclose(slope, torch.tensor([[c, -s], [s, c]]), atol=1e-3)


@pytest.mark.long
def test_rows_are_the_scores_of_the_flows_they_name(tiny):
    size = tiny.native_size
    pair = study_pair("hard", 0, 0.2, size=size)
    asked = pair.visible01 & pair.actor0
    rows = {row["estimator"]: row for row in study.measure(tiny, kind="hard", seed=0, amount=0.2)}
    still = torch.zeros_like(pair.flow01)
    assert rows["zero flow"]["pck"] == pytest.approx(100 * pck(still, pair.flow01, asked), abs=0.01)
    lengths = end_point_error(still, pair.flow01)[asked]
    assert rows["zero flow"]["median"] == pytest.approx(rows["zero flow"]["length"], abs=0.001)
    assert rows["zero flow"]["mean"] == pytest.approx(float(lengths.mean()), abs=0.001)
    for name in ("features", "raw patches"):
        parts = [rows[f"{name}, {part}"] for part in ("consistent", "inconsistent")]
        assert sum(part["share"] for part in parts) == pytest.approx(100, abs=0.02)
        whole = sum(part["share"] * (part["pck"] or 0) for part in parts) / 100
        assert whole == pytest.approx(rows[name]["pck"], abs=0.05)


@pytest.mark.long
def test_every_name_is_a_flow_of_its_own(tiny):
    flows = estimates(tiny, study_pair("easy", 0, 0.25, size=tiny.native_size), 0)
    names = list(flows)
    assert all(flow.shape[:2] == (1, 2) and flow.isfinite().all() for flow in flows.values())
    same = [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if flows[a].shape == flows[b].shape and torch.equal(flows[a], flows[b])
    ]
    assert same in ([], [("second up-block", "features")])  # the paper's block is fine enough for a larger model
