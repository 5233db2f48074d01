"""Frames that another tool wrote: which are taken, in what order, and what is refused."""

import imageio.v2 as imageio
import pytest
import torch

from interp_lib.bench.baselines import external
from interp_lib.bench.baselines._frames import write_png
from interp_lib.bench.metrics import psnr
from interp_lib.types import Pair

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def pair():
    """Two smooth images of other than square shape, on 8 bits."""
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    images = torch.stack([x, y, x * y]) * 0.5, 1 - 0.5 * torch.stack([y, x * y, x])
    return Pair("world:7", *[(255 * image[None]).round() / 255 for image in images])


def write(folder, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(frames):
        write_png(frame, folder / f"frame{k}.png")  # 10 comes after 9, whatever the alphabet says


def clip(pair, frames):
    return [pair.image0 + (pair.image1 - pair.image0) * k / (frames + 1) for k in range(frames + 2)]


def test_external_frames_with_and_without_the_ends(pair, tmp_path):
    frames = clip(pair, 11)
    write(tmp_path / "all" / "world_7", [frames[0] * 0.9, *frames[1:]])
    write(tmp_path / "between" / "world_7", frames[1:-1])
    for name, said in (("all", "13 frames with the ends"), ("between", "without the ends")):
        made = external.make(None, pair, frames=11, seed=0, folder=tmp_path / name)
        assert torch.equal(made.frames[:1], pair.image0) and torch.equal(made.frames[-1:], pair.image1)
        assert torch.allclose(made.frames, torch.cat(frames), atol=0.51 / 255) and said in made.notes[0]


def test_external_video(pair, tmp_path):
    pair = Pair("clip/a", pair.image0[..., :32, :48], pair.image1[..., :32, :48])
    pixels = [(x[0] * 255).round().byte().permute(1, 2, 0).numpy() for x in clip(pair, 3)]
    imageio.mimwrite(tmp_path / "clip_a.mp4", pixels, fps=8, quality=10)
    made = external.make(None, pair, frames=3, seed=0, folder=tmp_path)
    assert made.frames.shape == (5, 3, 32, 48) and "decoded from a video" in made.notes
    assert float(psnr(made.frames[1:-1], torch.cat(clip(pair, 3)[1:-1])).min()) > 25
    write(tmp_path / "clip_a", clip(pair, 3))
    with pytest.raises(ValueError, match="more than one answer"):
        external.make(None, pair, frames=3, seed=0, folder=tmp_path)


def test_external_frames_that_do_not_fit(pair, tmp_path):
    def make(frames=3):
        return external.make(None, pair, frames=frames, seed=0, folder=tmp_path / "mine")

    with pytest.raises(FileNotFoundError, match="no folder"):
        make()
    write(tmp_path / "mine" / "world_8", clip(pair, 3))
    with pytest.raises(FileNotFoundError, match="no frames for world:7.*world_7"):
        make()
    folder = tmp_path / "mine" / "world_7"
    write(folder, clip(pair, 3)[::-1])
    with pytest.raises(ValueError, match="backwards"):
        make()
    write(folder, clip(pair, 3))
    assert len(make().frames) == 5
    with pytest.raises(ValueError, match="holds 5 frames: 4 between.* so write 4, or 6"):
        make(frames=4)
    write_png(torch.rand(1, 3, HEIGHT, WIDTH + 1), folder / "frame2.png")
    with pytest.raises(ValueError, match="frame2.png is 57x40"):
        make()
    write(folder, [x[..., :32] for x in clip(pair, 3)])
    with pytest.raises(ValueError, match="32x40 pixels.*56x40"):
        make()
    (folder / "frame1.png").write_text("no image")
    with pytest.raises(ValueError, match="frame1.png"):
        make()
