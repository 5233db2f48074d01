"""Data sets of the rendered world: names that stay, and cases whose truth is true."""

import pytest
import torch

from interp_lib import render_pair
from interp_lib.bench import actor_track, direction_accuracy, net_displacement
from interp_lib.bench.datasets import list_cases, load_case
from interp_lib.bench.datasets.world import BOUNDS, counting_seeds, grade, world_pairs
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
    assert len(set(names)) == len(names) == 60
    assert names[:4] == list_cases("calm-bench:4") == ["calm:0", "calm:1", "calm:2", "calm:3"]


def test_seeds_that_show_too_few_pixels_do_not_count():
    pairs = [render_pair(seed, size=128, between=0) for seed in range(8)]
    seen = [int((pair.visible01 & pair.actor0).sum()) for pair in pairs]
    least = sorted(seen)[4]
    expected = [seed for seed in range(8) if seen[seed] >= least]
    assert expected != list(range(4)), "the rule left nobody out"
    assert list(counting_seeds("world", 4, least=least)) == expected


WRONG_NAMES = {
    "": "no data set and no case of one: choose one of world-bench",
    "world": "cases are world:SEED",
    "world:07": "cases are world:SEED",
    "calm:": "cases are world:SEED",
    "world-bench:0": "cases, as in world-bench:50",
    "clip-bench:99": "first N of its 10 windows",
    "clip:dog:3": "CLIP is one of bunny, carphone, bikes",
    "clip:bunny:24-40": "a window is clip:CLIP:FIRST",
    "davis:": "'' is not there: davis:FOLDER needs FOLDER/JPEGImages/480p",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_wrong_name_is_answered_by_one_sentence(name):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        list_cases(name)
    assert WRONG_NAMES[name] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["world:5", "world-easy:5"])
def test_a_world_case_is_the_rendered_pair(name):
    hard = name == "world:5"
    case, pair = load_case(name, frames=3, size=(48, 64)), render_pair(5, size=(48, 64), hard=hard, between=3)
    for field in ("image0", "image1", "frames", "flow01", "flow10", "visible01", "visible10", "actor0", "actor1"):
        assert torch.equal(getattr(case.pair, field), getattr(pair, field)), field
    scene = sample_scene(5, hard=hard)
    assert torch.equal(case.pair.frames[1:2], render(scene, 0.25, size=(48, 64)))
    assert case.pair.caption == pair.caption and case.pair.notes == [] and case.ground is None and case.facing == 0


@pytest.mark.parametrize("name, scene", [("world:5", sample_scene(5)), ("calm:2", calm_scene(2))])
def test_flow_between_any_two_frames_is_the_true_one(name, scene):
    case = load_case(name, frames=3, size=32)
    for i, j in [(0, 4), (4, 0), (1, 3), (3, 2), (2, 2)]:
        flow, visible = case.flow(i, j)
        expected, seen, _ = true_flow(scene, i / 4, j / 4, size=32)
        assert flow.shape == (1, 2, 32, 32) and visible.shape == (1, 1, 32, 32) and visible.dtype == torch.bool
        assert torch.equal(flow, expected) and torch.equal(visible, seen)
    assert torch.equal(case.flow(0, 4)[0], case.pair.flow01) and torch.equal(case.flow(4, 0)[0], case.pair.flow10)
    assert torch.equal(case.flow(0, 4)[1], case.pair.visible01) and not case.flow(2, 2)[0].any()


def test_displacement_is_the_median_length_of_the_flow_in_longer_sides():
    case = load_case("world:3", frames=1, size=(32, 48))
    pair, lengths = case.pair, []
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


def test_a_size_that_is_no_multiple_of_eight_is_brought_down_and_says_so():
    pair = load_case("calm:0", frames=1, size=(44, 48)).pair
    assert pair.frames.shape == (3, 3, 40, 48)
    assert pair.notes == ["calm:0: size 48x44 brought down to 48x40, a multiple of 8"]
    with pytest.raises(ValueError, match="at least 16"):
        load_case("calm:0", frames=1, size=8)


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
    objects = [true_flow(calm_scene(4), t / 4, t / 4, size=64)[2] >= 0 for t in range(5)]
    for t in range(5):
        assert torch.equal(case.moving[t : t + 1], objects[t] | objects[0] | objects[-1])
    assert torch.equal(case.pair.actor0, objects[0]) and torch.equal(case.pair.actor1, objects[-1])
    assert not torch.equal(case.moving[0], case.moving[2])
