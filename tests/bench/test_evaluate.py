"""`evaluate`: every column is the measure it is named for, the true frames top each one, and errors come first."""

import math

import pytest
import torch

from interp_lib import render_clip
from interp_lib.bench import motion, networks
from interp_lib.bench.evaluate import MEASURES, evaluate
from interp_lib.bench.metrics import SIDE, high_frequency_ratio, psnr, ssim
from interp_lib.bench.networks import perceptual_distance
from interp_lib.bench.set_metrics import fid, kid
from interp_lib.bench.warping import tvl1_flow, warping_errors

FRAMES = 6


def edges(images):
    """A stand-in network: two maps of differences between pixels."""
    return [images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]]


def colours(images):
    """A stand-in for the network of FID: the colours of a 2x2 picture."""
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture(scope="module", autouse=True)
def stand_in_networks():
    """The networks of other packages are replaced by functions that a test can follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "lite0_maps", edges)
        patch.setattr(networks, "inception_features", colours)
        yield


class World:
    """A rendered clip as a benchmark sees it."""

    def __init__(self, seed):
        clip = render_clip(seed, frames=FRAMES, size=48, calm=True)
        self.frames, self.flow, self.facing = clip.frames, clip.flow, clip.facing
        self.ground = motion.world_ground(clip.scene, clip.size)
        seen = (clip.frames - self.ground).abs().amax(1, keepdim=True) > 0.05
        self.moving = seen | seen[:1] | seen[-1:]
        weight = torch.linspace(0, 1, FRAMES).view(-1, 1, 1, 1)
        self.dissolve = (1 - weight) * self.frames[:1] + weight * self.frames[-1:]
        self.shuffled = self.frames[[0, 3, 1, 4, 2, 5]]
        names = ("flow", "moving", "ground", "facing")
        self.truth = {"reference": self.frames} | {name: getattr(self, name) for name in names}


@pytest.fixture(scope="module")
def world():
    return World(1)


LOWER = {"we", "we_mid", "back_and_forth", "fid", "kid"} | {name for name in MEASURES if name.startswith("perceptual")}
ONE = {"high_frequency", "high_frequency_side", "spread"}  # better the nearer to one
BLIND = {"high_frequency", "high_frequency_side", "perceptual_ends", "fid", "kid", "net_displacement"}  # to the order
STRAIGHT = {"perceptual_ends", "perceptual_ppl"}  # a straight way through pixels is shorter than the true one
OFFLINE = [name for name, measure in MEASURES.items() if measure.net != "lpips"]


@pytest.mark.long
def test_the_true_frames_top_every_column_that_asks_for_them():
    sums = {name: [0.0, 0.0, 0.0] for name in OFFLINE}  # the higher the better
    for clip in map(World, (1, 2, 4)):
        for k, frames in enumerate((clip.frames, clip.dissolve, clip.shuffled)):
            found = evaluate(frames, **clip.truth, metrics=OFFLINE)
            for name in OFFLINE:
                value = found[name]
                sums[name][k] += -value if name in LOWER else -abs(value - 1) if name in ONE else value
    for name, (true, dissolve, shuffled) in sums.items():
        if name in STRAIGHT:
            assert dissolve > true, name
        else:
            assert true >= max(dissolve, shuffled) - 1e-4, name
        if name in BLIND:
            assert shuffled == pytest.approx(true, abs=1e-3), name
        elif name != "spread":
            assert shuffled < true, name


def test_columns_are_the_measures_they_are_named_for(world):
    made = (0.8 * world.dissolve + 0.2 * world.shuffled).clamp(0, 1)
    found = evaluate(made, **world.truth, metrics=OFFLINE)
    true, between, last, mid = world.frames[1:-1], made[1:-1], FRAMES - 1, FRAMES // 2
    there, back = (torch.cat([world.flow(t + a, t + b) for t in range(last)]) for a, b in ((0, 1), (1, 0)))
    to_ends = torch.cat([world.flow(mid, 0), world.flow(mid, last)])
    from_ends = torch.cat([world.flow(0, mid), world.flow(last, mid)])
    track = motion.actor_track(made, world.ground)
    ends, neighbours = made[[0, -1]], perceptual_distance(made[:-1], made[1:], net=edges)
    expected = {
        "n": FRAMES - 2,
        "psnr": float(psnr(between, true).mean()),
        "psnr_moving": float(psnr(between, true, world.moving[1:-1]).mean()),
        "ssim": float(ssim(between, true).mean()),
        "we": float(warping_errors(made[:-1], made[1:], there, back).mean()),
        "we_mid": float(warping_errors(made[[mid, mid]], ends, to_ends, from_ends).mean()),
        "high_frequency": float(high_frequency_ratio(between, ends).mean()),
        "high_frequency_side": float(high_frequency_ratio(between, ends, centre=SIDE).mean()),
        "direction": motion.direction_accuracy(track, world.facing),
        "net_displacement": motion.net_displacement(track, world.facing),
        "back_and_forth": motion.back_and_forth(track),
        "spread": float((motion.actor_spread(between, world.ground) / motion.actor_spread(true, world.ground)).mean()),
        "perceptual": float(perceptual_distance(between, true, net=edges).mean()),
        "perceptual_ends": sum(
            float(perceptual_distance(between, end.expand_as(between), net=edges).mean()) / 2 for end in ends.split(1)
        ),
        "perceptual_ppl": float(neighbours.sum()),
        "perceptual_pdv": float(neighbours.var(correction=0)),
        "fid": fid(colours(between), colours(true)),
        "kid": kid(colours(between), colours(true)),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6, rel=1e-5), name
    assert found["we_x100"] == pytest.approx(100 * expected["we"])
    assert found["we_mid_x100"] == pytest.approx(100 * expected["we_mid"])
    names = {"we_flow": "given", "perceptual_net": "efficientnet-lite0", "feature_net": "inception"}
    assert set(found) == set(expected) | {"we_x100", "we_mid_x100"} | set(names)
    assert {name: found[name] for name in names} == names


def test_auto_takes_what_the_arguments_allow(world):
    bare, flow = {"n", "high_frequency", "high_frequency_side"}, {"we", "we_mid", "we_x100", "we_mid_x100", "we_flow"}
    steps = {"back_and_forth", "direction", "net_displacement"}
    for arguments, columns in (
        ([], set()),
        (["reference"], {"psnr", "ssim"}),
        (["reference", "moving"], {"psnr", "ssim", "psnr_moving"}),
        (["flow"], flow),
        (["ground"], {"back_and_forth"}),
        (["ground", "facing"], steps),
        (list(world.truth), flow | steps | {"psnr", "ssim", "psnr_moving", "spread"}),
    ):
        found = evaluate(world.dissolve, **{name: world.truth[name] for name in arguments})
        assert set(found) == bare | columns
        assert all(math.isfinite(value) for name, value in found.items() if name != "we_flow")


def test_given_endpoints_are_what_the_ends_are_measured_against(world):
    made, inputs = 0.5 * world.frames, world.frames[[0, -1]]  # a reconstruction that has lost half the contrast
    found, own = evaluate(made, endpoints=inputs, flow=world.flow), evaluate(made, flow=world.flow)
    assert own["high_frequency"] == pytest.approx(evaluate(world.frames)["high_frequency"], abs=1e-4)
    assert found["high_frequency"] == pytest.approx(0.5 * own["high_frequency"], abs=1e-4)
    assert found["we_mid"] > own["we_mid"] and found["we"] == own["we"]  # neighbours of the frames as they are


def test_a_flow_may_come_with_its_visibility(world):
    def case_flow(i, j):
        return world.flow(i, j), torch.zeros(1, 1, 48, 48, dtype=torch.bool)

    assert evaluate(world.frames, flow=case_flow) == evaluate(world.frames, flow=world.flow)


def test_an_estimated_flow_is_named():
    clip = render_clip(3, frames=3, size=16, calm=True).frames
    made = clip.flip(-1)
    on_truth = evaluate(made, reference=clip, flow="tvl1", metrics=["we"])
    on_frames = evaluate(made, flow="tvl1", metrics=["we"])
    assert (on_truth["we_flow"], on_frames["we_flow"]) == ("tvl1 of the reference", "tvl1 of the frames")
    for found, source in ((on_truth, clip), (on_frames, made)):
        there = torch.cat([tvl1_flow(source[t : t + 1], source[t + 1 : t + 2]) for t in (0, 1)])
        back = torch.cat([tvl1_flow(source[t + 1 : t + 2], source[t : t + 1]) for t in (0, 1)])
        assert found["we"] == pytest.approx(float(warping_errors(made[:-1], made[1:], there, back).mean()), abs=1e-7)


def test_what_a_clip_does_not_have_is_left_out_or_said(world):
    moving, kept = world.moving.clone(), [1, 3, 4]
    moving[2] = False
    found = evaluate(world.dissolve, reference=world.frames, moving=moving)["psnr_moving"]
    expected = psnr(world.dissolve[kept], world.frames[kept], world.moving[kept]).mean()
    assert found == pytest.approx(float(expected), rel=1e-6)
    still = evaluate(world.dissolve, reference=world.frames, moving=torch.zeros_like(moving))
    assert still["psnr_moving"] == "n/a: nothing moves"
    nothing = world.ground.expand(FRAMES, -1, -1, -1)
    found = evaluate(nothing, reference=nothing, ground=world.ground, facing=1)
    for name in ("direction", "net_displacement", "back_and_forth", "spread"):
        assert found[name] == "n/a: no actor is seen to move"
    flat = evaluate(torch.full((3, 3, 16, 16), 0.4))
    assert flat["high_frequency"] == "n/a: the endpoints have no high frequencies"


@pytest.mark.parametrize(
    "argument, said",
    [
        ({"metrics": "spread"}, "spread needs ground= and reference="),
        ({"endpoints": torch.rand(4, 3, 16, 16)}, "endpoints has shape"),
        ({"ground": torch.full((1, 3, 16, 16), 2.0)}, "ground has values"),
        ({"moving": torch.ones(4, 16, 16, dtype=torch.bool)}, "one mask a frame"),
        ({"flow": lambda i, j: torch.zeros(1, 2, 8, 8)}, r"flow\(0, 1\) gave \(1, 2, 8, 8\)"),
        ({"flow": lambda i, j: torch.full((1, 2, 16, 16), math.nan)}, "finite flow"),
        ({"flow": lambda i, j: None}, "gave NoneType"),
    ],
)
def test_arguments_that_do_not_fit(argument, said):
    with pytest.raises(ValueError, match=said):
        evaluate(torch.rand(4, 3, 16, 16), **argument)
