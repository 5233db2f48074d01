"""Wrong files and names of files: images, videos, folders, models, LoRAs, deltas, outputs, full disks."""

import os
import resource
import signal
from contextlib import contextmanager

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save_file

from interp_lib import (
    as_images,
    load_clips,
    load_image_model,
    load_lora,
    load_pair,
    load_video_model,
    save_figure,
    save_video,
)
from interp_lib.bench import list_cases, load_case
from interp_lib.bench.baselines.external import find_frames
from interp_lib.dreammover.lora import Lora
from interp_lib.files import atomic_write
from interp_lib.images import open_image, to_pil
from interp_lib.inbetweening.backward import BackwardMotion
from tests.models.conftest import writable
from tests.models.spoil import UNET_FILE, config, remove, text
from tests.robustness.harness import DELTAS, FINITE, MISSING, NAN, SD, SVD, WHOLE, image_model, refuse

LONG = "x" * 400
frames = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def at(*names):
    """Files of the ground as arguments."""
    return lambda g: tuple(g.files / name for name in names)


def files(*names):
    """Files of the ground as one argument."""
    return lambda g: (tuple(g.files / name for name in names),)


def cases(ground, spec, item=None):
    spec = spec.format(files=ground.files)
    return list_cases(spec) if item is None else load_case(f"{spec}:{item}", frames=3)


DAMAGED = r"cannot be read as an image \(.*\): it may be damaged, save it again"
SHAPE, NO_CLIP = "shape .*three colour channels", "cannot be decoded"
NO_PAIR = "is no pair: give a bundled name, a folder"
UNKNOWN = "is neither a folder nor a bundled pair; these are"
IMAGES = [
    (open_image, "loop.png does not exist: give the path", at("loop.png"), {}, MISSING),
    (open_image, "text.png is not an image .*: use PNG, JPEG or WebP", at("text.png")),
    (open_image, f"cut.png {DAMAGED}", at("cut.png")),
    (open_image, "flat.png is 20x4 pixels: at least 8 .* use a larger image", at("flat.png")),
    (open_image, "nan.tif contains NaN or infinite", at("nan.tif")),
    (open_image, r"range.tif has values from 7 to 7: images are in \[0,1\], so rescale", at("range.tif")),
    (open_image, "bomb.png has more than .* million pixels: make it smaller", at("bomb.png")),
    (open_image, "empty is a folder, not an image: name one file", at("empty")),
    (as_images, r"image has values from .*: images are in \[0,1\], so rescale", (frames - 0.5,)),
    (as_images, "torch.uint8 values: .*divide by 255", (frames.byte(),)),
    (as_images, SHAPE, (frames[:, :1],)),
    (as_images, "is 1x1 pixels: .*use a larger image", (frames[..., :1, :1],)),
    (as_images, f"image {DAMAGED}", lambda g: (Image.open(g.files / "cut.png"),)),
    (to_pil, "frame holds 3 images: pass one", (frames,)),
    (load_pair, UNKNOWN, ("motorbike",), {}, MISSING),
    (load_pair, UNKNOWN, (LONG,), {}, MISSING),
    (load_pair, NO_PAIR, ("",)),
    (load_pair, "a.png is one file: a pair needs two images", at("a.png")),
    (load_pair, "a pair is two images, but 3 paths .*: name the first and", files("a.png", "b.png", "cut.png")),
    (load_pair, "none.png does not exist: give the path", files("a.png", "none.png"), {}, MISSING),
    (load_pair, "identical images: there is nothing to interpolate", files("a.png", "same.png")),
    (load_pair, "larger.png is 96x80 pixels but .*64x64: bring both to one size", files("a.png", "larger.png")),
    (load_pair, "empty holds 0 image.*: a pair needs two", at("empty")),
    (load_pair, "1.png is 40x40 pixels but .*: bring both", at("mixed/x")),
    (load_clips, "none is no folder: give one that holds videos", at("none"), {}, MISSING),
    (load_clips, "empty holds no clip: put videos", at("empty")),
    (load_clips, f"text.mp4 {NO_CLIP} as a video: convert it", at("named")),
    (load_clips, f"list.mp4 {NO_CLIP} as a video: convert it", at("listed"), {"frames": 2}),
    (load_clips, "one.mp4 has 1 frames: .*smaller stride or number of frames", at("single"), {"frames": 2}),
    (load_clips, f"frames=1 {WHOLE}", at("named"), {"frames": 1}),
    (cases, "has no sequence in JPEGImages/480p: davis:FOLDER needs", lambda g: (g, "davis:{files}/one")),
    (cases, "bear goes from frame 0 to frame 2: davis:FOLDER needs", lambda g: (g, "davis:{files}/gap")),
    (cases, "0.png is named neither PAIR_0 nor PAIR_1", lambda g: (g, "pairs:{files}/mixed/x")),
    (cases, f"text.mp4 {NO_CLIP} .*: convert", lambda g: (g, "pexels:{files}/named", "text.mp4")),
    (cases, "has no '../clip.mp4': it holds text.mp4", lambda g: (g, "pexels:{files}/named", "../clip.mp4")),
    (save_video, "a video's name ends in .gif", (frames, "a.avi")),
    (save_video, "the folder none does not exist; make it first", (frames, "none/a.gif"), {}, MISSING),
    (save_video, "folder.gif is a folder: name a file", lambda g: (frames, g.files / "folder.gif")),
    (save_video, r"frames must be a tensor \[T,3,H,W\] with at least one", (frames[:0], "a.gif")),
    (save_video, "frames hold NaN or infinite values", (frames * NAN, "a.gif")),
    (save_video, r"lie in \[0,1\], these span .*; use frames.clamp", (frames * 255, "a.gif")),
    *((save_video, f"fps={fps!r} {FINITE}", (frames, "a.gif"), {"fps": fps}) for fps in (0, NAN)),
    (save_figure, "name '../a': use lower-case letters", (Figure(), "../a"), {"alt": "x"}),
    (save_figure, "alt text is empty; say in a sentence", (Figure(), "a"), {"alt": " "}),
    (Lora.save, "saved as safetensors, so end it", lambda g: (Lora(g.image, "pair0"), "a.bin")),
]


def saved(make):
    """A file of tensors, made of the shipped deltas, as an argument."""

    def arguments(ground):
        save_file(make(load_file(DELTAS)), ground.files / "tensors.safetensors")
        return (ground.files / "tensors.safetensors",)

    return arguments


def factors(*shape, fill=0.0):
    """The two factors of one layer of a LoRA that fits no model here."""
    layer = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {f"{layer}.lora_A.weight": torch.full(shape, fill), f"{layer}.lora_B.weight": torch.zeros(8, 4)}
    return saved(lambda deltas: state)


def with_deltas(path):
    return load_video_model(SVD, device="cpu", reverse=path)


def with_lora(path):
    try:
        load_lora(image_model(), path)
    finally:
        assert not getattr(image_model().unet, "peft_config", {}), "a refused LoRA has left a layer behind"


UNREADABLE = "cannot be read as safetensors .*: save or copy"
FOREIGN = "was fitted to another model"
MODELS = [
    (load_image_model, "does not exist: give", ("./no",), {}, MISSING),
    (load_image_model, "the network, or", ("acme/none",), {}, MISSING),
    (load_image_model, "is a file, .*: give 'embedded'", at("a.png")),
    (load_image_model, "load it with load_video_model", (SVD,)),
    (load_image_model, "device='gpu' .*: give 'auto'", (SD,), {"device": "gpu"}),
    (load_video_model, "the network, or", ("acme/none",), {}, MISSING),
    (load_video_model, "load it with load_image_model", (SD,)),
    (with_deltas, "do not exist: give a file", at("none.safetensors"), {}, MISSING),
    (with_deltas, f"cut.safetensors {UNREADABLE}", at("cut.safetensors")),
    (with_deltas, f"pickled.safetensors {UNREADABLE}", at("pickled.safetensors")),
    (with_deltas, "NaN or .*: use another copy", saved(lambda state: {k: x * NAN for k, x in state.items()})),
    (with_deltas, "another", saved(lambda state: {k: x.repeat(1, 2) for k, x in state.items()})),
    (with_deltas, "is empty: the deltas belong", saved(lambda state: {})),
    (with_lora, "does not exist: save one with", at("none.safetensors"), {}, MISSING),
    (with_lora, "cut.safetensors is no safetensors file .*: weights load from safetensors only", at("cut.safetensors")),
    (with_lora, "pickled.safetensors is no safetensors file .*: weights load from", at("pickled.safetensors")),
    (with_lora, "holds no LoRA: save one with", (DELTAS,)),
    (with_lora, FOREIGN, factors(4, 8)),
    (with_lora, f"{FOREIGN}: .* does not fit", factors(0, 8)),
    (with_lora, "not finite floats: use another copy of the LoRA", factors(4, 8, fill=NAN)),
]


@pytest.mark.parametrize("row", IMAGES + MODELS, ids=lambda row: row[0].__name__)
def test_refused(ground, row):
    refuse(ground, *row)


# a model's folder with one thing wrong: tests/models has more of them


def only_pickled(folder):
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def cut(folder):
    (folder / UNET_FILE).write_bytes((folder / UNET_FILE).read_bytes()[:50_000])


def index_points_out(folder):
    (folder / UNET_FILE).rename(folder / "outside.safetensors")
    text(f"{UNET_FILE}.index.json", '{"weight_map": {"conv_in.bias": "../outside.safetensors"}}')(folder)


SPOILT = [
    (SD, remove("model_index.json"), "model_index.json is missing; give 'emb"),
    (SD, text("model_index.json", '{"a":' * 10**5), "model_index.json cannot be read as JSON .*: copy"),
    (SD, text("unet/config.json", "[]"), "holds a JSON list in place of an object: copy"),
    (SD, lambda f: (f / "vae/config.json").write_bytes(b"\xff\xfe{"), "as JSON .*: copy"),
    (SD, only_pickled, "(pickled|safetensors) weights.*: .*(copy|load)"),
    (SD, lambda f: torch.save({}, f / UNET_FILE), "unet.*: .*copy or download"),
    (SD, cut, "unet.*damaged.* copy or download it again"),
    (SD, index_points_out, ": .*copy "),
    (SD, config("unet", in_channels=9), "9 channels .*: use a text-to-image"),
    (SVD, only_pickled, "(pickled|safetensors) weights.*: .*(copy|load)"),
    (SVD, cut, "unet.*damaged.* copy or download it again"),
]


@pytest.mark.parametrize(("source", "spoil", "says"), SPOILT)
def test_a_spoilt_folder_is_refused(ground, source, spoil, says):
    spoil(writable(source, ground.out / "model"))
    load = load_image_model if source == SD else load_video_model
    refuse(ground, load, says, (ground.out / "model",), {"device": "cpu"})


# the disk, and names that would leave their folder


@contextmanager
def full_disk():
    """A limit of the system: writing beyond a kilobyte fails. For one call: pytest's report may go to a longer file."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def text_file(path):
    with atomic_write(path) as temporary:
        temporary.write_text("1" * 9999)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.mp4", "a.safetensors", "a.json"])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(ground, name):
    (ground.out / name).write_text("old")
    deltas = BackwardMotion({"w": torch.zeros(999)})

    def write():
        with full_disk():
            {"a.safetensors": deltas.save, "a.json": text_file}.get(name, lambda path: save_video(frames, path))(name)

    refuse(ground, write, r"a\.\w+ cannot be written \(.+\): make room there", (), {}, OSError)


def test_a_folder_that_may_not_be_written_to_is_said_before_the_work(ground, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for anybody but root in a folder of mode 0555
    refuse(ground, save_video, "a.mp4 cannot be written, .* is read-only: name another place", (frames, "a.mp4"))


@pytest.mark.parametrize("name", ["..", "/etc/passwd", "a\\..\\b"])
def test_the_name_of_a_case_stays_in_the_folder_of_another_tool(ground, name):
    (ground.out / "tool").mkdir()
    for folder in (ground.out, ground.out.parent):
        (folder / "0.png").write_bytes((ground.files / "a.png").read_bytes())
    says = "has no frames for .*: write them as PNG files into"
    refuse(ground, find_frames, says, (ground.out / "tool", name), {}, MISSING)


@pytest.mark.parametrize("name", ["-a.mp4", "concat:a.mp4", "é 1.mp4"])
def test_names_that_ffmpeg_would_read_as_something_else(ground, name):
    save_video(frames, name)  # in the current folder, which is the row's own
    assert [path.name for path in ground.out.iterdir()] == [name]
