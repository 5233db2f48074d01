"""Calm scenes: what tells the direction of an actor, and that nothing tells it of a ball."""

import torch

from interp_lib.world import render
from interp_lib.world.clips import calm_scene


def test_a_scene_is_a_function_of_its_seed_and_travels_as_far_as_asked():
    for seed in range(20):
        scene = calm_scene(seed, travel=(0.2, 0.3))
        assert torch.equal(render(scene, 0.4, size=32), render(calm_scene(seed, travel=(0.2, 0.3)), 0.4, size=32))
        assert 0.2 <= float(scene.actors[0, 0, 5]) <= 0.3 and scene.actors.shape[1] == 1


def test_the_start_does_not_give_the_direction_away():
    """Over many seeds the mean starting place of those that go right and left differs by less than chance would."""
    scenes = [calm_scene(seed) for seed in range(400)]
    x = torch.tensor([float(s.actors[0, 0, 0]) for s in scenes])
    right = torch.tensor([float(s.actors[0, 0, 2]) > 0 for s in scenes])
    error = (x[right].var() / right.sum() + x[~right].var() / (~right).sum()).sqrt()
    assert (x[right].mean() - x[~right].mean()).abs() < 3 * error
    assert 150 < int(right.sum()) < 250


def test_a_ball_rolls_both_ways_and_has_no_face():
    scenes = [calm_scene(seed, ball=True) for seed in range(60)]
    assert 15 < sum(float(s.actors[0, 0, 2]) > 0 for s in scenes) < 45
    for scene in scenes[:10]:
        assert int(scene.parts[0, 0, :, 11].sum()) == 2 and "facing" not in scene.captions[0]
        # the same silhouette whichever way it will go: mirrored at its own centre it covers the same pixels
        x = float(scene.actors[0, 0, 0])
        bare = scene.parts.clone()
        bare[..., 11] = 0
        ground = render(type(scene)(**{**vars(scene), "parts": bare}), 0.0, size=128)
        seen = (render(scene, 0.0, size=128) - ground).abs().amax(1)[0] > 1e-4
        columns = seen.any(0).nonzero()[:, 0].float()
        assert abs(float(columns.mean()) + 0.5 - 128 * x) < 1.5
