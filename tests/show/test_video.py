import subprocess

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from interp_lib.show.video import save_video


@pytest.fixture
def frames():
    """Six flat frames, each of another colour."""
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])
    return colours[:, :, None, None].expand(6, 3, 32, 48).clone()


@pytest.mark.parametrize("suffix, tolerance", [(".gif", 2), (".webp", 12), (".mp4", 12)])
def test_what_is_written_reads_back(frames, tmp_path, suffix, tolerance):
    written = save_video(frames, tmp_path / f"a{suffix}", fps=10)
    if suffix == ".mp4":
        reader = imageio.get_reader(written.path)
        read, fps = np.stack([frame for frame in reader]), reader.get_meta_data()["fps"]
    else:
        image = Image.open(written)
        read = np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])
        fps = 1000 / image.info["duration"]
    assert read.shape == (6, 32, 48, 3) and fps == pytest.approx(10)
    assert np.abs(read - (frames * 255).permute(0, 2, 3, 1).numpy()).mean() < tolerance
    assert written.notes == () and [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    capitals = save_video(frames, tmp_path / f"B{suffix.upper()}", fps=10)
    assert capitals.path.read_bytes() == written.path.read_bytes()


def test_odd_sides_of_an_mp4_are_padded_and_said(frames, tmp_path):
    written = save_video(frames[..., :31, :47], tmp_path / "odd.mp4")
    assert imageio.get_reader(written.path).get_meta_data()["size"] == (48, 32)
    assert len(written.notes) == 1 and "47x31" in written.notes[0] and "48x32" in written.notes[0]
    assert save_video(frames[..., :31, :47], tmp_path / "odd.gif").notes == ()


def test_a_notebook_shows_it_with_its_alt_text(frames, tmp_path):
    data, _ = save_video(frames, tmp_path / "a.gif", alt='A "red" frame')._repr_mimebundle_()
    assert 'alt="A &quot;red&quot; frame"' in data["text/html"] and "data:image/gif;base64," in data["text/html"]
    data, _ = save_video(frames, tmp_path / "A.GIF")._repr_mimebundle_()
    assert "data:image/gif;base64," in data["text/html"]
    data, _ = save_video(frames, tmp_path / "a.mp4", alt="Colours")._repr_mimebundle_()
    assert '<video controls loop aria-label="Colours"' in data["text/html"]


@pytest.mark.parametrize("fps, seconds", [(8, 6 / 8), (24, 6 / 24), (29.97, 6 / 29.97), (60, 0.12)])
def test_a_gif_lasts_as_long_as_it_should_and_no_browser_slows_it_down(frames, tmp_path, fps, seconds):
    written = save_video(frames, tmp_path / "a.gif", fps=fps)
    delays = [image.info["duration"] for image in ImageSequence.Iterator(Image.open(written))]
    assert min(delays) >= 20 and sum(delays) / 1000 == pytest.approx(seconds, abs=0.0051)
    assert ("at most 50 frames" in "".join(written.notes)) == (fps > 50)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_h264_is_tagged_with_the_matrix_that_it_was_converted_with(frames, tmp_path, suffix):
    path, ffmpeg = save_video(frames, tmp_path / f"a{suffix}").path, imageio_ffmpeg.get_ffmpeg_exe()
    said = subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True).stderr
    assert "yuv420p(tv, bt709" in said and "unknown" not in said.split("yuv420p(")[1].split(")")[0]
    raw = subprocess.run(
        [ffmpeg, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True
    )
    read = np.frombuffer(raw.stdout, np.uint8).reshape(6, 32, 48, 3).astype(int)
    assert np.abs(read - (frames * 255).permute(0, 2, 3, 1).numpy()).max() <= 3


def test_a_name_without_a_suffix_is_a_folder_of_lossless_frames(frames, tmp_path):
    (tmp_path / "film").mkdir()
    written = save_video(frames, tmp_path / "film")
    names = sorted(path.name for path in written.path.iterdir())
    assert names == [f"{k:04d}.png" for k in range(6)] and [p.name for p in tmp_path.iterdir()] == ["film"]
    read = np.stack([np.asarray(Image.open(written.path / name)) for name in names])
    assert np.array_equal(read, (frames * 255).permute(0, 2, 3, 1).numpy())
    with pytest.raises(ValueError, match="film exists: name an empty or a new folder"):
        save_video(frames, tmp_path / "film")
