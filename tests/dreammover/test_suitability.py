"""The suitability of a pair: what it says of flows that are known, and that it agrees with what it is made of."""

import pytest
import torch

from interp_lib import consistency_mask, estimate_flow, invert, suitability
from interp_lib.dreammover.suitability import LIMITS, judge_flow

STILL = torch.zeros(1, 2, 8, 8)


def block(left, background=0.3):
    """[1,3,64,64]: a white square of 16 px on a plain ground, its left side at `left`."""
    image = torch.full((1, 3, 64, 64), background)
    image[..., 24:40, left : left + 16] = 1
    return image


def moving(cells):
    """The flow of the block that starts at cell 2 of 8, by whole cells."""
    flow = STILL.clone()
    flow[:, 0, 3:5, 2:4] = cells
    return flow


def test_a_pair_and_a_flow_that_are_known():
    images = torch.cat([block(16), block(32)])
    back = STILL.clone()
    back[:, 0, 3:5, 4:6] = -2
    found = judge_flow(images, moving(2), back)
    assert found.change == pytest.approx(0.7, abs=1e-6)  # white against 0.3, wherever the images differ
    assert found.score == pytest.approx(0.3 * (1 - found.residue))
    pairs = [(x, y) for x in range(8) for y in range(8)]
    ways = [(moving(2), back), (back, moving(2))]
    returns = [
        (lambda x2: abs(dx + float(b[0, 0, y, x2])) <= 0.8)(int(x + dx))
        for a, b in ways
        for x, y in pairs
        for dx in [float(a[0, 0, y, x])]
    ]
    assert found.consistent == pytest.approx(sum(returns) / 128)
    jumps = 2 * (2 * 2 + 2 * 2)  # each flow's block has two rows beside it and two columns above and below
    assert found.smooth == pytest.approx(1 - jumps / (2 * 2 * 56))
    assert found.displacement == pytest.approx(2 * 4 * 2 / 128 / 128**0.5)


def test_the_true_flow_leaves_less_than_none_and_a_wrong_one():
    images = torch.cat([block(16), block(32)])
    back = STILL.clone()
    back[:, 0, 3:5, 4:6] = -2
    true, none = judge_flow(images, moving(2), back), judge_flow(images, STILL, STILL)
    wrong = judge_flow(images, moving(-2), -back)
    assert true.residue < none.residue and true.residue < wrong.residue and true.score > none.score


def test_equal_colours_are_a_perfect_pair_and_stronger_contrast_a_worse_one():
    plain = torch.full((2, 3, 64, 64), 0.5)
    perfect = judge_flow(plain, STILL, STILL)
    assert (perfect.score, perfect.change, perfect.residue, perfect.covered) == (1, 0, 0, 1) and perfect.reasons == []
    scores = [judge_flow(torch.cat([block(16, g), block(32, g)]), STILL, STILL).score for g in (0.8, 0.5, 0.1)]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 0.3


def test_splatting_away_leaves_holes():
    away = STILL.clone()
    away[:, 0] = 100.0
    assert judge_flow(torch.rand(2, 3, 64, 64), away, away).covered == 0


def test_every_reason_names_its_part_and_its_limit():
    found = judge_flow(torch.cat([block(16, 0.0), block(32, 0.0)]), STILL, STILL)
    assert found.likely_to_fail and len(found.reasons) == 2
    for part in ("change", "residue"):
        assert any(f"{getattr(found, part):.2f}" in r and f"{LIMITS[part]:.2f}" in r for r in found.reasons)
    assert all("\n" not in r and r.endswith(".") for r in found.reasons)


def test_on_a_model_it_is_made_of_the_flow_that_a_run_finds(tiny, small):
    before = tiny.unet_calls
    found = suitability(tiny, small[:1], small[1:], steps=10, block=1, progress=False)
    inversion = invert(tiny, small, steps=10, inversion_steps=3, preset="released", progress=False)
    flows = estimate_flow(tiny, inversion, block=1)
    assert torch.equal(found.flow01, flows[0]) and torch.equal(found.flow10, flows[1])
    assert found.unet_calls == 4 and tiny.unet_calls == before + 4 + 3 + 1
    near = 0.1 * max(flows[0].shape[-2:])
    back = [consistency_mask(*way, tolerance=near).float().mean() for way in (flows, flows[::-1])]
    assert found.consistent == pytest.approx(float(sum(back) / 2))
    assert -1 <= found.similarity <= 1 and 0 <= found.score <= 1
    again = judge_flow(small, *flows)
    assert again.score == found.score and again.similarity is None


def test_a_size_brings_the_images_there(tiny, pair):
    found = suitability(tiny, pair[:1], pair[1:], size=64, steps=5, progress=False)
    assert found.flow01.shape[-1] == 64 // tiny.vae_factor


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image1": None}, "image1 is of type NoneType"),
        ({"steps": 0}, "steps=0"),
        ({"feature_step": 99}, "feature_step=99"),
        ({"block": 9}, "block=9"),
        ({"size": 3}, "size=3"),
        ({"model": "embedded"}, "load_image_model"),
    ],
)
def test_wrong_inputs_are_one_sentence_and_cost_nothing(tiny, small, change, words):
    given = {"model": tiny, "image0": small[:1], "image1": small[1:], "progress": False} | change
    before = tiny.unet_calls
    with pytest.raises(ValueError, match=words) as caught:
        suitability(**given)
    assert "\n" not in str(caught.value) and tiny.unet_calls == before


def test_wrong_flows():
    with pytest.raises(ValueError, match="shape"):
        judge_flow(torch.rand(2, 3, 64, 64), STILL, torch.zeros(1, 2, 8, 9))
    with pytest.raises(ValueError, match="no smaller"):
        judge_flow(torch.rand(2, 3, 4, 4), STILL, STILL)
