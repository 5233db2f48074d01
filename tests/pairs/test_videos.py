"""Training clips from folders: what is read, at which stride, and what is refused by one sentence."""

from __future__ import annotations

import pytest
import torch

from interp_lib import load_clips, save_video
from interp_lib.images import to_pil


def _video(path, count, *, size=(48, 64)):
    """Frame k is a uniform grey of k / 40, which a codec keeps."""
    frames = torch.stack([torch.full((3, *size), k / 40) for k in range(count)])
    save_video(frames, path, fps=8)
    return path


def _frames(folder, count, *, size=(40, 56)):
    folder.mkdir()
    for k in range(count):
        to_pil(torch.full((3, *size), k / 40)).save(folder / f"{k}.png")


def test_every_nth_frame_of_videos_and_of_folders_is_read_in_order(tmp_path):
    _video(tmp_path / "a.mp4", 27)
    _frames(tmp_path / "b", 30)
    clips, notes = load_clips(tmp_path, frames=14, stride=2, size=32)
    assert clips.shape == (2, 14, 3, 32, 32)
    expected = torch.arange(0, 28, 2) / 40
    assert (clips.mean((2, 3, 4)) - expected).abs().max() < 0.02
    assert [note.split(":")[0] for note in notes] == ["a.mp4", "b"] and "stride 2" in notes[0]


def test_long_sources_give_several_windows_one_behind_the_other(tmp_path):
    _frames(tmp_path / "long", 21)
    clips, _ = load_clips(tmp_path, frames=5, windows=9)
    assert clips.shape[0] == 4
    assert (clips[2].mean((1, 2, 3)) - torch.arange(10, 15) / 40).abs().max() < 0.01


def test_a_clip_shorter_than_needed_is_named_with_what_it_would_need(tmp_path):
    _video(tmp_path / "short.mp4", 10)
    with pytest.raises(ValueError, match=r"short\.mp4 has 10 frames: 14 frames at stride 2 need 27"):
        load_clips(tmp_path, frames=14, stride=2)


def test_mixed_sizes_need_a_size(tmp_path):
    _frames(tmp_path / "a", 3)
    _frames(tmp_path / "b", 3, size=(48, 48))
    with pytest.raises(ValueError, match="48x48 pixels and others are 56x40: give size="):
        load_clips(tmp_path, frames=3)
    assert load_clips(tmp_path, frames=3, size=32)[0].shape == (2, 3, 3, 32, 32)


def test_mixed_sizes_within_a_folder_are_refused(tmp_path):
    _frames(tmp_path / "a", 3)
    to_pil(torch.zeros(3, 20, 20)).save(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is 20x20 pixels, other frames of its folder are 56x40"):
        load_clips(tmp_path, frames=3)


def test_a_video_that_cannot_be_decoded_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"this is no video" * 100)
    with pytest.raises(ValueError, match=r"bad\.mp4 cannot be decoded"):
        load_clips(tmp_path, frames=3)


def test_a_video_that_was_cut_short_is_too_short_or_undecodable_never_silent(tmp_path):
    path = _video(tmp_path / "cut.mp4", 30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="cut.mp4"):
        load_clips(tmp_path, frames=30)


@pytest.mark.parametrize("wrong", [{"frames": 1}, {"stride": 0}, {"windows": 0}, {"frames": 2.5}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    _frames(tmp_path / "a", 4)
    with pytest.raises(ValueError, match="out of range"):
        load_clips(tmp_path, **wrong)


def test_a_folder_without_clips_and_one_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="holds no clip"):
        load_clips(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        load_clips(tmp_path / "none")
