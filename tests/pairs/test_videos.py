"""Training clips from folders: what is read, at which stride, and what is refused by one sentence."""

import subprocess
import sys

import imageio_ffmpeg
import pytest
import torch

from interp_lib import load_clips, save_video
from interp_lib.images import to_pil
from interp_lib.pairs.videos import read_pictures


def _video(path, count, *, size=(48, 64)):
    """Frame k is a uniform grey of k / 40, which a codec keeps."""
    frames = torch.stack([torch.full((3, *size), k % 40 / 40) for k in range(count)])
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


FILTERS = {  # how the picture's time stamps come to be irregular
    "late": (["-itsoffset", "2"], ["-f", "lavfi", "-t", "4", "-i", "sine", "-map", "0:v", "-map", "1:a"], "mp4"),
    "variable": ([], ["-vf", "setpts='N*N/20/TB'", "-fps_mode", "vfr"], "mp4"),
    "pause": ([], ["-vf", "setpts='(N+40*gte(N,3))/10/TB'", "-fps_mode", "vfr"], "gif"),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_every_decoded_frame_comes_once(tmp_path, kind):
    """The picture starts after the sound, the rate varies, one frame stays for long: a player repeats, we do not."""
    before, after, suffix = FILTERS[kind]
    source = tmp_path / "source.mp4"
    moving = torch.zeros(12, 3, 48, 64)
    for k in range(12):
        moving[k, :, :, 5 * k : 5 * k + 5] = 1
    save_video(moving, source, fps=10)
    (tmp_path / "clips").mkdir()
    made = tmp_path / "clips" / f"made.{suffix}"
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-v", "error", *before, "-i", source, *after, made], check=True)
    (clip,) = load_clips(tmp_path / "clips", frames=12)[0]
    columns = [int(frame.mean((0, 1)).argmax()) // 5 for frame in clip]
    assert columns == list(range(12))
    assert len(list(read_pictures(made))) == 12
    chosen = list(read_pictures(made, 2, 9, 3))
    assert len(chosen) == 3 and all(torch.equal(a[0], clip[k]) for a, k in zip(chosen, (2, 5, 8), strict=True))


@pytest.mark.long
def test_memory_is_that_of_the_result(tmp_path):
    """60 frames of 1280x720 are 660 MB as floats; what is kept of them at 32 px is 0.2 MB."""
    _video(tmp_path / "large.mp4", 60, size=(720, 1280))
    code = """import resource, sys, interp_lib.pairs.videos
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
interp_lib.load_clips(sys.argv[1], frames=14, stride=4, size=32)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"""
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert float(said) < 150, said  # MB, the decoder's buffers among them


def test_long_sources_give_several_windows_one_behind_the_other(tmp_path):
    _frames(tmp_path / "long", 21)
    clips, _ = load_clips(tmp_path, frames=5, windows=9)
    assert clips.shape[0] == 4
    assert (clips[2].mean((1, 2, 3)) - torch.arange(10, 15) / 40).abs().max() < 0.01


def test_mixed_sizes_need_a_size(tmp_path):
    _frames(tmp_path / "a", 3)
    _frames(tmp_path / "b", 3, size=(48, 48))
    with pytest.raises(ValueError, match="48x48 pixels and others are 56x40: give size="):
        load_clips(tmp_path, frames=3)
    assert load_clips(tmp_path, frames=3, size=32)[0].shape == (2, 3, 3, 32, 32)
