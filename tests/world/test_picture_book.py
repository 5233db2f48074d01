"""The picture-book world: fixed coats, strangers, middles that can be told from the ends, motion the start hides."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from interp_lib.world import render
from interp_lib.world.breeds import BREEDS
from interp_lib.world.picture_book import FACING, LENGTH, extent, sample_clip, sample_pair
from interp_lib.world.rig import KINDS
from interp_lib.world.truth import locate, pair_of, true_flow

SEEDS = range(40)
FACE, TRAVEL, ARC, PACE = 2, 5, 11, 12  # columns of Scene.actors


@pytest.mark.parametrize("sample", [sample_pair, sample_clip])
def test_the_same_seed_is_the_same_picture_and_a_stranger_another(sample):
    one, again, stranger = sample(3), sample(3), sample(3, stranger=True)
    assert torch.equal(render(one, 0.4, size=48), render(again, 0.4, size=48))
    assert not torch.equal(one.patterns, stranger.patterns)


def test_a_breed_has_one_coat_and_strangers_have_none_of_them():
    coats = {}
    for seed in range(300):
        scene = sample_pair(seed)
        name = scene.captions[0].split(" facing")[0]
        coats.setdefault(name, []).append(scene.patterns[0, 0])
    assert len(coats) == sum(map(len, BREEDS.values()))
    for name, patterns in coats.items():
        assert all(torch.equal(p, patterns[0]) for p in patterns), name
    known = [p[0] for p in coats.values()]
    for seed in SEEDS:
        coat = sample_pair(seed, stranger=True).patterns[0, 0]
        assert not any(torch.equal(coat, breed) for breed in known)


def test_objects_are_half_to_two_thirds_of_the_frame_long():
    for seed in SEEDS:
        scene = sample_clip(seed)
        kind = next(word for word in scene.captions[0].replace(",", " ").split() if word in KINDS)
        length = float(scene.actors[0, 0, 3].exp()) * extent(kind)
        assert LENGTH[0] <= length <= LENGTH[1]


def test_limbs_of_a_pair_stay_within_a_quarter_of_a_cycle():
    """So that no leg passes the one beside it: the swings of a leg have one sign from end to end, and one direction."""
    times, legs = torch.linspace(0, 1, 9), 0
    for seed in SEEDS:
        scene = sample_pair(seed)
        kind, gait = scene.captions[0].split(" facing")[0].split()[-1], float(scene.actors[0, 0, 9])
        for part, row in zip(KINDS[kind], scene.parts[0, 0], strict=False):
            if "leg" not in part.name and "arm" not in part.name:
                continue  # heads, tails and wings have phases of their own and nothing to pass
            legs, phase = legs + 1, float(row[8])
            angles = torch.sin(phase + 2 * np.pi * gait * times)
            assert (angles > -1e-3).all() or (angles < 1e-3).all()
            assert (angles.diff() > -1e-3).all() or (angles.diff() < 1e-3).all()
    assert legs > 50


def test_the_first_frame_hides_arc_and_pace_and_later_ones_show_them():
    scene = sample_clip(5)
    for column in (ARC, PACE):
        actors = scene.actors.clone()
        actors[..., column] *= -1
        other = replace(scene, actors=actors)
        assert torch.equal(render(scene, 0.0, size=64), render(other, 0.0, size=64))
        assert torch.allclose(render(scene, 1.0, size=64), render(other, 1.0, size=64), atol=1e-4)
        assert (render(scene, 0.5, size=64) - render(other, 0.5, size=64)).abs().max() > 0.1


def test_clips_move_where_they_face_and_start_anywhere():
    starts = {-1.0: [], 1.0: []}
    for seed in range(200):
        scene = sample_clip(seed)
        assert any(word in scene.captions[0] for word in FACING)
        facing = float(scene.actors[0, 0, FACE])
        starts[facing].append(float(scene.actors[0, 0, 0]))
        flow, _, seen = true_flow(scene, 0.0, 1.0, size=32)
        moved = flow[0, 0][seen[0, 0] >= 0]
        assert float(moved.median()) * facing > 2
    assert abs(np.mean(starts[-1.0]) - np.mean(starts[1.0])) < 0.03


def test_the_flow_of_a_pair_leads_to_the_part_it_left():
    """At the place the flow names, the same part is seen at the other time wherever it says that it is visible."""
    scene = sample_pair(11)
    pair = pair_of(scene, "pair", size=64)
    flow, visible, seen = true_flow(scene, 0.0, 1.0, size=64)
    assert torch.equal(pair.flow01, flow) and torch.equal(pair.actor0, seen >= 0)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    points = (torch.stack([x, y], -1)[None] + flow.permute(0, 2, 3, 1)) / 64
    there = locate(scene, torch.ones(1), points)
    assert torch.equal(there[visible[:, 0]], seen[:, 0][visible[:, 0]])


def test_a_ball_rolls_either_way():
    signs = {float(sample_clip(seed, ball=True).actors[0, 0, FACE]) for seed in range(30)}
    assert signs == {-1.0, 1.0}
    assert "facing" not in sample_clip(0, ball=True).captions[0]
