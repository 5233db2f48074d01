"""The measures of motion against clips whose motion is known."""

import math

import pytest
import torch

from interp_lib.bench.motion import (
    actor_spread,
    actor_track,
    back_and_forth,
    direction_accuracy,
    net_displacement,
    world_clips,
    world_ground,
)


def _square(positions: list[float], *, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """A white square on black at these x positions, 64 px frames, and the empty ground."""
    frames = torch.zeros(len(positions), 3, 64, 64)
    for frame, x in zip(frames, positions, strict=True):
        frame[:, 20:26, int(x) : int(x) + width] = 1
    return frames, torch.zeros(1, 3, 64, 64)


def test_the_track_is_the_centre_of_what_differs_from_the_ground():
    track = actor_track(*_square([4, 10, 20]))
    assert torch.allclose(track[:, 0], torch.tensor([6.5, 12.5, 22.5]), atol=1e-4)
    assert torch.allclose(track[:, 1], torch.full((3,), 22.5), atol=1e-4)


def test_direction_net_and_back_and_forth_of_known_tracks():
    there, ground = _square([10, 14, 18, 22])
    track = actor_track(there, ground)
    assert direction_accuracy(track, 1) == 1 and direction_accuracy(track, -1) == 0
    assert net_displacement(track, 1) == pytest.approx(12) and net_displacement(track, -1) == pytest.approx(-12)
    assert back_and_forth(track) == pytest.approx(0)
    home = actor_track(*_square([10, 16, 22, 16, 10]))
    assert back_and_forth(home) == pytest.approx(1) and direction_accuracy(home, 1) == 0.5


def test_frames_without_an_actor_are_left_out_and_none_at_all_is_nan():
    frames, ground = _square([10, 14, 18])
    frames[1] = 0
    track = actor_track(frames, ground)
    assert track[1].isnan().all() and math.isnan(direction_accuracy(track, 1))
    assert math.isnan(back_and_forth(actor_track(torch.zeros(3, 3, 64, 64), ground)))


def test_the_spread_tells_two_ghosts_from_one_actor():
    frames, ground = _square([10, 40])
    ghost = frames.mean(0, keepdim=True)
    assert float(actor_track(ghost, ground)[0, 0]) == pytest.approx(27.5)  # the centre does not
    assert float(actor_spread(ghost, ground)[0]) > 5 * float(actor_spread(frames, ground)[0])


def test_true_clips_go_where_they_face_and_reversed_ones_do_not():
    """One actor of twelve is coloured like its ground and trembles in the track, hence the median."""
    indices = []
    for clip in world_clips(12, frames=14):
        ground = world_ground(clip.scene, clip.size)
        there, back = (
            net_displacement(actor_track(x, ground), clip.facing) for x in (clip.frames, clip.frames.flip(0))
        )
        assert there > 6 and back == pytest.approx(-there, abs=1e-3)
        indices.append(back_and_forth(actor_track(clip.frames, ground)))
    assert sorted(indices)[6] < 0.01 and max(indices) < 0.5
