"""Wrong outputs: names and frames that cannot be written, full disks, closed folders, names that would leave."""

import errno
import os
import resource
import signal
from contextlib import contextmanager

import matplotlib.figure
import pytest
import torch

from interp_lib import save_figure, save_video
from interp_lib.bench.baselines.external import find_frames
from interp_lib.dreammover.lora import Lora
from interp_lib.files import atomic_write
from interp_lib.inbetweening.backward import BackwardMotion
from interp_lib.show import contact_sheet, explore, figure_path, flow_legend, flow_to_colour, frame_at, frame_slider
from tests.robustness.harness import Row, refuse

MISSING = FileNotFoundError
frames = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
figure = matplotlib.figure.Figure


def video(about, says, x, name="a.gif", kind=ValueError, **options):
    return Row(f"save_video: {about}", lambda g: save_video(x, g.out / name if name else name, **options), says, kind)


def shown(function, about, says, *arguments, **options):
    return Row(f"{function.__name__}: {about}", lambda g: function(*arguments, **options), says)


ROWS = [
    video("ending", r"a video's name ends in .gif", frames, "a.avi"),
    video("no folder", "the folder .*none does not exist; make it first", frames, "none/a.gif", MISSING),
    video("a folder", "folder.gif is a folder: name a file", frames, "../folder.gif"),
    video("no path", "None is no path: give the name of a video", frames, None),
    video("no frame", r"frames must be a tensor \[T,3,H,W\] with at least one", frames[:0]),
    video("one channel", r"frames must be a tensor \[T,3,H,W\]", frames[:, :1]),
    video("a list", "frames must be a tensor .*, got list", [frames]),
    video("NaN", "frames hold NaN or infinite values", frames * torch.nan),
    video("bytes", r"lie in \[0,1\], these span .*; use frames.clamp", frames * 255),
    video("fps 0", "fps=0 is out of range: give a finite number", frames, fps=0),
    video("fps NaN", "fps=nan is out of range: give a finite number", frames, fps=float("nan")),
    video("fps a text", "fps='8' is out of range: give a finite number", frames, fps="8"),
    shown(save_figure, "name", "name '../a': use lower-case letters", figure(), "../a", alt="x"),
    shown(save_figure, "alt", "alt text is empty; say in a sentence", figure(), "a", alt=" "),
    shown(figure_path, "outside", "name '../a.png': give a file name without a folder", "../a.png"),
    shown(contact_sheet, "no row", "contact_sheet needs rows with one number", {}),
    shown(contact_sheet, "lengths", "contact_sheet needs rows with one number", {"a": frames, "b": frames[:2]}),
    shown(contact_sheet, "a list", "needs rows as a dictionary", [frames]),
    shown(flow_to_colour, "image", r"flow must be \[N,2,H,W\]", frames),
    shown(flow_to_colour, "largest", "largest='x' is out of range: give", frames[:, :2], largest="x"),
    shown(flow_legend, "largest", "largest=nan is out of range: give", figure().subplots(), largest=float("nan")),
    shown(frame_at, "position", "position must lie between 0 and 1", frames, "half"),
    shown(frame_slider, "no frames", "frames is of type list: give a tensor", [frames]),
    shown(explore, "control", "x=<object.* is no control: give a range", print, x=object()),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_refused(ground, row):
    (ground.out.parent / "folder.gif").mkdir()
    refuse(row, ground)


# the disk, and names that would leave their folder


@contextmanager
def full_disk():
    """A real limit of the system: what is written beyond a kilobyte fails, here and in programs that are started.

    Around one call only: pytest's own report may be going to a longer file.
    """
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def text_file(path, content):
    with atomic_write(path) as temporary:
        temporary.write_text(content)


WRITERS = {
    "gif": lambda g: save_video(frames, g.out / "a.gif"),
    "webp": lambda g: save_video(frames, g.out / "a.webp"),
    "mp4": lambda g: save_video(frames, g.out / "a.mp4"),
    "deltas": lambda g: BackwardMotion({"w": torch.zeros(999)}).save(g.out / "a.safetensors"),
    "text": lambda g: text_file(g.out / "a.json", "1" * 9999),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(ground, kind):
    for old in ("a.gif", "a.webp", "a.mp4", "a.safetensors", "a.json"):
        (ground.out / old).write_text("old")

    def call(ground):
        with full_disk():
            WRITERS[kind](ground)

    refuse(Row(f"{kind}: a full disk", call, r"/a\.\w+ cannot be written \(.+\): make room there", OSError), ground)


def test_no_space_left_is_said_in_the_systems_words(ground, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    said = r"a.json cannot be written \(No space left on device\): make room there"
    refuse(Row("whole: no space", lambda g: text_file(g.out / "a.json", "1"), said, OSError), ground)


def test_an_output_folder_that_cannot_be_written_to_is_refused_before_any_work(ground, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for anybody but root in a folder of mode 0555
    said = "a.mp4 cannot be written, .* is read-only: name another place"
    refuse(Row("save_video: read-only", lambda g: save_video(frames, g.out / "a.mp4"), said), ground)


@pytest.mark.parametrize("name", ["..", "../..", "../world:0", "/etc/passwd", "a\\..\\b", "."])
def test_the_name_of_a_case_stays_in_the_folder_of_another_tool(ground, name):
    (ground.out / "tool").mkdir()
    for folder in (ground.out, ground.out.parent):
        (folder / "0.png").write_bytes((ground.files / "a.png").read_bytes())
    said = "has no frames for .*: write them as PNG files into"
    refuse(Row("external: outside", lambda g: find_frames(g.out / "tool", name), said, FileNotFoundError), ground)


@pytest.mark.parametrize("name", ["a:b.mp4", "-a.mp4", "concat:a.mp4", "a:b.gif", "é 1.mp4"])
def test_names_that_ffmpeg_would_read_as_something_else(ground, name):
    save_video(frames, name)  # in the current folder, which is the row's own
    assert [path.name for path in ground.out.iterdir()] == [name]


def test_lora_names(ground):
    lora = Lora(ground.image, "pair0")
    refuse(Row("Lora.save: ending", lambda g: lora.save(g.out / "a.bin"), "saved as safetensors, so end it"), ground)
    refuse(Row("Lora.scale: strength", lambda g: lora.scale("x"), "strength='x' is out of range: give"), ground)
