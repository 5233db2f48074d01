"""The suitability of a pair: what it says of flows that are known, and that its flow is the one a run uses."""

import pytest
import torch

from interp_lib import interpolate, suitability
from interp_lib.dreammover.suitability import judge_flow

STILL = torch.zeros(1, 2, 8, 8)


def block(left, background=0.3):
    """[1,3,64,64]: a white square of 16 px on a plain ground, its left side at `left`."""
    image = torch.full((1, 3, 64, 64), background)
    image[..., 24:40, left : left + 16] = 1
    return image


def moving(cells, start=2):
    """The flow of the block that starts at this cell of 8, by whole cells."""
    flow = STILL.clone()
    flow[:, 0, 3:5, start : start + 2] = cells
    return flow


IMAGES, THERE, BACK = torch.cat([block(16), block(32)]), moving(2), moving(-2, start=4)


def test_a_pair_and_a_flow_that_are_known():
    judged = judge_flow(IMAGES, THERE, BACK)
    assert judged.change == pytest.approx(0.7, abs=1e-6)  # white against 0.3, wherever the images differ
    assert judged.score == pytest.approx(0.3 * (1 - judged.residue))
    returns = []
    for there, back in ((THERE, BACK), (BACK, THERE)):
        for y in range(8):
            for x in range(8):
                dx = float(there[0, 0, y, x])
                returns.append(abs(dx + float(back[0, 0, y, int(x + dx)])) <= 0.8)
    assert judged.consistent == pytest.approx(sum(returns) / 128)
    jumps = 2 * (2 * 2 + 2 * 2)  # each flow's block has two rows beside it and two columns above and below
    assert judged.smooth == pytest.approx(1 - jumps / (2 * 2 * 56))
    assert judged.displacement == pytest.approx(2 * 4 * 2 / 128 / 128**0.5)


def test_better_and_worse_pairs():
    true, none, wrong = (judge_flow(IMAGES, k * THERE, k * BACK) for k in (1, 0, -1))
    assert true.residue < none.residue and true.residue < wrong.residue and true.score > none.score
    perfect = judge_flow(torch.full((2, 3, 64, 64), 0.5), STILL, STILL)
    assert (perfect.score, perfect.change, perfect.residue, perfect.covered) == (1, 0, 0, 1)
    scores = [judge_flow(torch.cat([block(16, g), block(32, g)]), STILL, STILL).score for g in (0.8, 0.5, 0.1)]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 0.3
    away = STILL + 100.0
    assert judge_flow(IMAGES, away, away).covered == 0


def test_it_judges_the_flow_of_the_run(tiny, small, monkeypatch):
    """Its defaults are those of `interpolate`, the model's own settings included; it costs the features alone."""
    for settings in ({}, {"feature_block": 2, "inversion_steps": 14}):
        monkeypatch.setattr(tiny, "settings", settings)
        before = tiny.unet_calls
        judged = suitability(tiny, *small.split(1), steps=10, progress=False)
        assert tiny.unet_calls - before == 3 + 1  # 14 of 50 is 3 of 10
        run = interpolate(tiny, *small.split(1), steps=10, frames=1, lora=False, progress=False)
        assert torch.equal(judged.flow01, run.flow01) and torch.equal(judged.flow10, run.flow10)
        assert judged.score == judge_flow(small, run.flow01, run.flow10).score
