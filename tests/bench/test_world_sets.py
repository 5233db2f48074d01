"""Data sets of the rendered world: names that stay, and cases whose truth is true."""

import pickle

import pytest
import torch

from interp_lib import render_pair
from interp_lib.bench import actor_track, direction_accuracy, net_displacement
from interp_lib.bench.datasets import list_cases, load_case
from interp_lib.bench.datasets.world import BOUNDS, COUNT, counting_seeds, grade
from interp_lib.bench.held_out import world_pairs
from interp_lib.world.clips import calm_scene
from interp_lib.world.render import render
from interp_lib.world.scene import sample_scene
from interp_lib.world.truth import true_flow


@pytest.mark.parametrize("spec, hard", [("world-bench", True), ("world-easy-bench", False)])
def test_names_of_the_world_are_those_of_the_held_out_pairs(spec, hard):
    names = list_cases(f"{spec}:3")
    assert names == [pair.name for pair in world_pairs(3, hard=hard)]
    assert list_cases(f"{spec}:2") == names[:2]  # fewer are the first of more


def test_the_default_is_a_set_of_sixty_different_cases():
    names = list_cases("calm-bench")
    assert len(set(names)) == len(names) == COUNT == 60
    assert names[:4] == list_cases("calm-bench:4") == ["calm:0", "calm:1", "calm:2", "calm:3"]


def test_seeds_that_show_too_few_pixels_do_not_count():
    seen = []
    for seed in range(8):
        pair = render_pair(seed, size=128, between=0)
        seen.append(int((pair.visible01 & pair.actor0).sum()))
    least = sorted(seen)[4]
    expected = [seed for seed in range(8) if seen[seed] >= least]
    assert expected != list(range(4)), "the rule left nobody out"
    assert list(counting_seeds("world", 4, least=least)) == expected


WRONG_NAMES = {
    "vimeo": "no data set and no case of one: choose one of world-bench",
    "": "no data set",
    "world": "cases are world:SEED",
    "world:-1": "cases are world:SEED",
    "world:07": "cases are world:SEED",
    "world:1.5": "cases are world:SEED",
    "calm:": "cases are world:SEED",
    "world-bench:0": "cases, as in world-bench:50",
    "calm-bench:many": "cases, as in world-bench:50",
    "clip-bench:0": "the set is clip-bench",
    "clip:dog:3": "CLIP is one of bunny, carphone, bikes",
    "clip:bunny": "a window is clip:CLIP:FIRST",
    "clip:bunny:24-40": "at least 25 frames apart, so end at 49 or later",
    "davis:": "'' is not there: davis:FOLDER needs FOLDER/JPEGImages/480p",
    "pairs:/nowhere/at/all": "is not there: pairs:FOLDER needs FOLDER/PAIR/",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_wrong_name_is_answered_by_one_sentence(name):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        list_cases(name)
    assert WRONG_NAMES[name] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["world-bench", "calm-bench:3", "clip-bench", "davis:bear", 7, None])
def test_only_the_name_of_a_case_is_loaded(name):
    with pytest.raises(ValueError, match="no case|is unknown|no data set"):
        load_case(name, frames=1)


@pytest.mark.parametrize("frames", [0, -1, 1.5, True])
def test_the_number_of_frames_between_is_a_whole_one(frames):
    with pytest.raises(ValueError, match="out of range"):
        load_case("world:0", frames=frames)


@pytest.mark.parametrize("name", ["world:5", "world-easy:5"])
def test_a_world_case_is_the_rendered_pair(name):
    hard = name == "world:5"
    case, pair = load_case(name, frames=3, size=(48, 64)), render_pair(5, size=(48, 64), hard=hard, between=3)
    for field in ("image0", "image1", "frames", "flow01", "flow10", "visible01", "visible10", "actor0", "actor1"):
        assert torch.equal(getattr(case.pair, field), getattr(pair, field)), field
    scene = sample_scene(5, hard=hard)
    assert torch.equal(case.pair.frames[1:2], render(scene, 0.25, size=(48, 64)))
    assert case.pair.caption == pair.caption and case.pair.notes == [] and case.ground is None and case.facing == 0


def test_world_flow_between_any_two_frames_is_the_true_one():
    case = load_case("world:5", frames=3, size=32)
    scene = sample_scene(5)
    for i, j in [(0, 4), (4, 0), (1, 3), (3, 2), (2, 2)]:
        flow, visible = case.flow(i, j)
        expected, seen, _ = true_flow(scene, i / 4, j / 4, size=32)
        assert flow.shape == (1, 2, 32, 32) and visible.shape == (1, 1, 32, 32) and visible.dtype == torch.bool
        assert torch.equal(flow, expected) and torch.equal(visible, seen)
    assert torch.equal(case.flow(0, 4)[0], case.pair.flow01) and torch.equal(case.flow(4, 0)[0], case.pair.flow10)
    assert torch.equal(case.flow(0, 4)[1], case.pair.visible01) and not case.flow(2, 2)[0].any()
    assert not torch.allclose(case.flow(1, 3)[0], case.flow(3, 1)[0])


def test_moving_pixels_of_a_world_case_by_hand():
    case = load_case("world:5", frames=2, size=32)
    pair = case.pair
    assert case.moving.shape == (4, 1, 32, 32) and case.moving.dtype == torch.bool
    for frame, moving in zip(pair.frames, case.moving, strict=True):
        expected = pair.actor0[0] | pair.actor1[0]
        for end in (pair.image0[0], pair.image1[0]):
            expected = expected | ((frame - end).abs().max(0, keepdim=True).values > 0.15)
        assert torch.equal(moving, expected)
    assert 0 < case.moving.float().mean() < 1


def test_displacement_is_the_median_length_of_the_flow_in_longer_sides():
    case = load_case("world:3", frames=1, size=(32, 48))
    pair = case.pair
    lengths = []
    for y in range(32):
        for x in range(48):
            if pair.actor0[0, 0, y, x] and pair.visible01[0, 0, y, x]:
                lengths.append(float(pair.flow01[0, :, y, x].norm()) / 48)
    lengths.sort()
    assert case.tags["displacement"] == pytest.approx(lengths[(len(lengths) - 1) // 2], rel=1e-5)
    assert case.tags["grade"] == grade(case.tags["displacement"])


def test_grades_split_at_their_bounds():
    small, medium = BOUNDS.values()
    given = [0.0, small - 1e-6, small, medium - 1e-6, medium, 1.0]
    assert [grade(value) for value in given] == ["small", "small", "medium", "medium", "large", "large"]


@pytest.mark.parametrize("kind", ["world", "world-easy", "calm"])
def test_every_grade_has_cases(kind):
    grades = [load_case(f"{kind}:{seed}", frames=1, size=24).tags["grade"] for seed in range(12)]
    assert all(grades.count(name) >= 2 for name in ("small", "medium", "large"))


@pytest.mark.parametrize("name, side", [("world:0", 128), ("calm:0", 64)])
def test_a_set_has_a_size_of_its_own(name, side):
    assert load_case(name, frames=1).pair.image0.shape == (1, 3, side, side)


def test_a_size_that_is_no_multiple_of_eight_is_brought_down_and_says_so():
    pair = load_case("calm:0", frames=1, size=(44, 48)).pair
    assert pair.frames.shape == (3, 3, 40, 48)
    assert pair.notes == ["calm:0: size 48x44 brought down to 48x40, a multiple of 8"]
    with pytest.raises(ValueError, match="at least 16"):
        load_case("calm:0", frames=1, size=8)


@pytest.mark.parametrize("name", ["world:1", "calm:1"])
def test_a_case_can_be_sent_to_another_process(name):
    case = load_case(name, frames=1, size=16)
    assert torch.equal(pickle.loads(pickle.dumps(case)).flow(0, 1)[0], case.flow(0, 1)[0])


@pytest.mark.parametrize("seed", range(6))
def test_the_actor_of_a_calm_case_moves_the_way_it_faces(seed):
    case = load_case(f"calm:{seed}", frames=3)
    track = actor_track(case.pair.frames, case.ground)
    assert case.facing in (-1.0, 1.0) and not track.isnan().any()
    assert direction_accuracy(track, case.facing) == 1.0
    assert net_displacement(track, case.facing) > 0.05 * 64
    assert (case.pair.flow01[:, :1][case.pair.actor0].median() > 0) == (case.facing > 0)


def test_the_ground_of_a_calm_case_is_what_shows_where_nothing_moves():
    case = load_case("calm:4", frames=3)
    assert case.ground.shape == (1, 3, 64, 64) and case.moving.shape == (5, 1, 64, 64)
    still = ~case.moving
    different = ((case.pair.frames - case.ground).abs().amax(1, keepdim=True) > 1e-6) & still
    assert different.sum() < 0.1 * case.moving.sum()  # but for the smoothed outline, half a pixel wide
    scene = calm_scene(4)
    ends = [true_flow(scene, t, t, size=64)[2] >= 0 for t in (0, 1)]
    for t in range(5):
        now = true_flow(scene, t / 4, t / 4, size=64)[2] >= 0
        assert torch.equal(case.moving[t : t + 1], now | ends[0] | ends[1])
    assert torch.equal(case.pair.actor0, ends[0]) and torch.equal(case.pair.actor1, ends[1])
    assert not torch.equal(case.moving[0], case.moving[2])


def test_calm_flow_is_the_true_one():
    case, scene = load_case("calm:2", frames=2, size=32), calm_scene(2)
    expected, visible, _ = true_flow(scene, 1 / 3, 1, size=32)
    assert torch.allclose(case.flow(1, 3)[0], expected, atol=1e-4) and torch.equal(case.flow(1, 3)[1], visible)
    assert torch.equal(case.flow(3, 0)[0], case.pair.flow10) and torch.equal(case.flow(0, 3)[1], case.pair.visible01)
    assert torch.equal(case.pair.frames[-1:], render(scene, 1.0, size=32))
