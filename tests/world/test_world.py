"""The world's ground truth against its own pictures, and the promises a scene makes."""

import pytest
import torch
import torch.nn.functional as F

from interp_lib.world import locate, render, render_clip, render_pair, sample_scene, stack, true_flow
from interp_lib.world.render import pose
from interp_lib.world.rig import CAR


def bilinear(image: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Plain bilinear look-up at pixel coordinates, border clamped: the tests' own, not the library's."""
    h, w = image.shape[-2:]
    x, y = x.clamp(0, w - 1), y.clamp(0, h - 1)
    x0, y0 = x.floor().long().clamp(max=w - 2), y.floor().long().clamp(max=h - 2)
    fx, fy = x - x0, y - y0
    top = image[..., y0, x0] * (1 - fx) + image[..., y0, x0 + 1] * fx
    low = image[..., y0 + 1, x0] * (1 - fx) + image[..., y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + low * fy


def warp_errors(scene, s: float, t: float, size: int) -> tuple[float, float, float]:
    """Mean photometric error on visible pixels: with the true flow, without it, and with its sign turned."""
    flow, visible, _ = true_flow(scene, s, t, size=size)
    here, there = render(scene, s, size=size)[0], render(scene, t, size=size)[0]
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    mask = visible[0, 0]
    errors = []
    for sign in (1.0, 0.0, -1.0):
        warped = bilinear(there, x + sign * flow[0, 0], y + sign * flow[0, 1])
        errors.append(float((warped - here).abs().mean(0)[mask].mean()))
    return tuple(errors)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("times", [(0.0, 1.0), (0.7, 0.2)])
def test_true_flow_warps_one_frame_onto_the_other(seed, times):
    scene = sample_scene(seed)
    scene.light[:] = 1.0  # a change of light is no motion
    true, none, wrong = warp_errors(scene, *times, size=128)
    assert true < 0.02
    assert true < 0.5 * min(none, wrong)


def test_flow_of_actor_pixels_is_exact_along_a_round_trip():
    """There and back again is the identity wherever the point is visible, to a five-hundredth of a pixel."""
    scene, size = sample_scene(3), 96
    flow, visible, parts = true_flow(scene, 0.1, 0.8, size=size)
    back, _, _ = true_flow(scene, 0.8, 0.1, size=size)
    assert (visible & (parts >= 0)).sum() > 50
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    tx, ty = x + flow[0, 0], y + flow[0, 1]
    seen_there = locate(scene, torch.tensor([0.8]), torch.stack([(tx + 0.5) / size, (ty + 0.5) / size], -1)[None])
    assert torch.equal(seen_there[0][visible[0, 0]], parts[0, 0][visible[0, 0]])
    # A part moves affinely, so the bilinear look-up of the way back is exact where all four neighbours show the same
    # part.
    sure = visible[0, 0] & (parts[0, 0] >= 0) & (tx > 0) & (tx < size - 1) & (ty > 0) & (ty < size - 1)
    for gx in (tx.floor(), tx.ceil()):
        for gy in (ty.floor(), ty.ceil()):
            corner = torch.stack([(gx + 0.5) / size, (gy + 0.5) / size], -1)[None]
            sure &= locate(scene, torch.tensor([0.8]), corner)[0] == parts[0, 0]
    assert sure.sum() > 30
    assert (bilinear(back[0], tx, ty) + flow[0])[:, sure].abs().max() < 2e-3


def test_hidden_pixels_are_not_visible():
    """What another part or actor covers later is not visible, though it lands inside the frame."""
    size, hidden = 64, 0
    for seed in range(20):
        scene = sample_scene(seed)
        flow, visible, parts = true_flow(scene, 0.0, 1.0, size=size)
        y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
        tx, ty = x + flow[0, 0], y + flow[0, 1]
        inside = (tx > 0) & (tx < size) & (ty > 0) & (ty < size)
        assert not (visible[0, 0] & ~inside).any()
        covered = inside & ~visible[0, 0]
        there = locate(scene, torch.tensor([1.0]), torch.stack([tx, ty], -1)[None] / size)[0]
        assert (there[covered] > parts[0, 0][covered]).all()  # by something nearer
        hidden += int(covered.sum())
    assert hidden > 20 * 0.02 * size**2


def test_an_easy_pair_only_travels():
    """Every visible pixel of an actor moves by the same vector, and the ground not at all."""
    for seed in range(10):
        pair = render_pair(seed, size=64, hard=False)
        scene = sample_scene(seed, hard=False)
        _, _, parts = true_flow(scene, 0, 1, size=64)
        for actor in range(2):
            mine = (parts[0, 0] >= 0) & (parts[0, 0] // scene.parts.shape[2] == actor)
            if mine.any():
                vectors = pair.flow01[0][:, mine]
                assert (vectors - vectors[:, :1]).abs().max() < 1e-2
        assert pair.flow01[0][:, parts[0, 0] < 0].abs().max() < 1e-4


def test_same_seed_same_bits_and_batches_agree():
    first, again = render_pair(5, size=64), render_pair(5, size=64)
    assert torch.equal(first.frames, again.frames) and torch.equal(first.flow01, again.flow01)
    assert not torch.equal(first.frames, render_pair(6, size=64).frames)
    batch = render(stack([sample_scene(s) for s in (4, 5)]), 0.0, size=64)
    assert (batch[1] - first.image0[0]).abs().max() < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_resolution_independence(seed):
    """A picture at 256 px, averaged down, is the picture at 64 px; flow only scales."""
    small, large = render_pair(seed, size=64), render_pair(seed, size=256)
    assert (F.avg_pool2d(large.image0, 4) - small.image0).abs().mean() < 0.02
    scaled = F.avg_pool2d(large.flow01, 4) / 4
    same = (small.actor0 == F.max_pool2d(large.actor0.float(), 4).bool()) & small.visible01
    error = (scaled - small.flow01).abs().sum(1, keepdim=True)[same]
    assert error.median() < 0.05 and error.quantile(0.9) < 0.5


def test_non_square_sizes_show_the_same_scene():
    wide, square = render_pair(2, size=(64, 96)), render_pair(2, size=64)
    assert wide.image0.shape == (1, 3, 64, 96)
    assert (wide.image0[..., 16:80] - square.image0).abs().mean() < 1e-3


def test_actors_move_where_they_face_and_start_anywhere():
    clips = [sample_scene(s, start=True, calm=True) for s in range(400)]
    facing = torch.tensor([float(c.actors[0, 0, 2]) for c in clips])
    starts = torch.tensor([float(c.actors[0, 0, 0]) for c in clips])
    moved = []
    for clip, sign in zip(clips[:60], facing[:60].tolist(), strict=True):
        flow, _, parts = true_flow(clip, 0.0, 1.0, size=32)
        actor = (parts >= 0) & (parts < clip.parts.shape[2])
        if actor.any():
            moved.append(float(flow[:, :1][actor].mean()) * sign)
    assert min(moved) > 0
    assert abs(float(torch.corrcoef(torch.stack([facing, starts]))[0, 1])) < 0.12  # position does not give it away


def test_wheels_roll_with_the_way_travelled():
    """The lowest point of a rolling wheel stands still: translation and turn cancel at the rim."""
    scene = next(s for s in map(sample_scene, range(200)) if "car" in s.captions[0].split(" and ")[0])
    scene.actors[..., 7:9], scene.camera[:] = 0.0, 0.0  # no growth, turn or pan on top
    row = next(k for k, part in enumerate(CAR) if part.name == "rear wheel")
    radius, dt = float(scene.parts[0, 0, row, 0]), 1e-3
    before, after = (pose(scene, torch.tensor([t]))[0, row] for t in (0.5, 0.5 + dt))
    tilt = scene.actors[0, 0, 4]
    down = torch.stack([-torch.sin(tilt), torch.cos(tilt)])  # from the hub to the ground, across the way of travel
    local = torch.linalg.solve(before[:, :2], down)
    local = radius * local / local.norm()
    rim = ((after[:, :2] - before[:, :2]) @ local + after[:, 2] - before[:, 2]).norm() / dt
    hub = (after[:, 2] - before[:, 2]).norm() / dt
    assert rim < 0.05 * hub


def test_balls_fall_faster_and_faster():
    clip = next(s for s in (sample_scene(k) for k in range(200)) if "ball" in s.captions[0])
    heights = [float(pose(clip, torch.tensor([t]))[0, clip.parts.shape[2], 1, 2]) for t in (0.0, 0.5, 1.0)]
    heights = [y + float(clip.camera[0, 1]) * t for y, t in zip(heights, (0.0, 0.5, 1.0), strict=True)]
    assert heights[2] - heights[1] > heights[1] - heights[0]


def test_clip_has_truth_for_any_two_frames():
    clip = render_clip(1, frames=5, size=48)
    assert clip.frames.shape == (5, 3, 48, 48)
    assert clip.flow(0, 4).shape == (1, 2, 48, 48) and clip.parts(2).shape == (1, 1, 48, 48)
    assert clip.flow(3, 3).abs().max() < 1e-4
    assert "facing" in clip.caption


def test_displacement_is_what_was_asked_for():
    pair = render_pair(4, size=128, displacement=0.3, hard=False)
    scene = sample_scene(4, displacement=0.3, hard=False)
    _, _, parts = true_flow(scene, 0, 1, size=128)
    first = (parts >= 0) & (parts < scene.parts.shape[2])
    x, y = pair.flow01[:, :1][first], pair.flow01[:, 1:][first]
    assert abs(float((x**2 + y**2).sqrt().median()) / 128 - 0.3) < 0.03


WRONG = [
    {"size": 4},
    {"size": None},
    {"size": "64"},
    {"size": (64, 64, 3)},
    {"displacement": 3.0},
    {"displacement": (-0.5, 0.2)},
    {"between": -1},
    {"seed": 1.5},
    {"seed": -1},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_arguments_are_one_sentence(wrong):
    with pytest.raises(ValueError, match="^[^\\n]+$"):
        render_pair(**{"seed": 0, "size": 64} | wrong)


def test_a_clip_has_two_frames():
    with pytest.raises(ValueError, match="frames=1"):
        render_clip(0, frames=1, size=64)
