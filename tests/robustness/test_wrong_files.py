"""Wrong files and names of files: images, videos, folders, models, LoRAs, deltas, outputs, full disks."""

import errno
import json
import os
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save_file

from interp_lib import (
    area_size,
    as_images,
    fit_images,
    load_clips,
    load_image_model,
    load_lora,
    load_pair,
    load_video_model,
    randomly_initialised,
    save_figure,
    save_video,
)
from interp_lib.bench import list_cases, load_case, tvl1_flow
from interp_lib.bench.baselines.external import find_frames
from interp_lib.dreammover.lora import Lora
from interp_lib.files import atomic_write
from interp_lib.images import open_image, to_pil
from interp_lib.inbetweening.backward import BackwardMotion
from tests.robustness.harness import DELTAS, FINITE, MISSING, NAN, SD, SVD, WHOLE, copy_model, refuse

UNET = "unet/diffusion_pytorch_model.safetensors"
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


def damaged(ground):
    """An image that Pillow has opened and not yet read, as a user may hand it over."""
    return (Image.open(ground.files / "cut.png"),)


def lora(g):
    return Lora(g.image, "pair0")


DAMAGED = r"cannot be read as an image \(.*\): it may be damaged, save it again"
SHAPE, NO_CLIP = "shape .*three colour channels", "cannot be decoded"
NO_PAIR = "is no pair: give a bundled name, a folder"
UNKNOWN = "is neither a folder nor a bundled pair; these are"
IMAGES = [
    (open_image, "missing.png does not exist: give the path", at("missing.png"), {}, MISSING),
    (open_image, "loop.png does not exist: give the path", at("loop.png"), {}, MISSING),
    (open_image, "x does not exist: give", (LONG,), {}, MISSING),
    (open_image, "text.png is not an image .*: use PNG, JPEG or WebP", at("text.png")),
    (open_image, f"cut.png {DAMAGED}", at("cut.png")),
    (open_image, f"cut.jpg {DAMAGED}", at("cut.jpg")),
    (open_image, "flat.png is 20x4 pixels: at least 8 .* use a larger image", at("flat.png")),
    (open_image, "nan.tif contains NaN or infinite", at("nan.tif")),
    (open_image, r"range.tif has values from 7 to 7: images are in \[0,1\], so rescale", at("range.tif")),
    (open_image, "bomb.png has more than .* million pixels: make it smaller", at("bomb.png")),
    (open_image, "empty is a folder, not an image: name one file", at("empty")),
    (open_image, "None is no path of an image: give", (None,)),
    (as_images, "contains NaN or infinite values: .*finite", (frames * NAN,)),
    (as_images, r"image has values from .*: images are in \[0,1\], so rescale", (frames * 255,)),
    (as_images, r"image has values from .*: images are in \[0,1\], so rescale", (frames - 0.5,)),
    (as_images, "torch.uint8 values: .*divide by 255", (frames.byte(),)),
    (as_images, SHAPE, (frames[:, :1],)),
    (as_images, SHAPE, (frames[None],)),
    (as_images, SHAPE, (frames[:0],)),
    (as_images, "is 1x1 pixels: .*use a larger image", (frames[..., :1, :1],)),
    (as_images, r"type ndarray: give a tensor \[N,3,H,W\]", (np.zeros((3, 16, 16)),)),
    (as_images, f"image {DAMAGED}", damaged),
    (to_pil, "frame holds 3 images: pass one", (frames,)),
    (fit_images, f"size=nan {WHOLE}", (frames,), {"size": NAN}),
    (fit_images, f"multiple='8' {WHOLE}", (frames,), {"multiple": "8"}),
    (area_size, f"side=0 {WHOLE}", (64, 64), {"side": 0}),
    (tvl1_flow, "two images .* of one size, not", (frames[:1], frames[1:2, ..., :8])),
    (load_pair, UNKNOWN, ("motorbike",), {}, MISSING),
    (load_pair, UNKNOWN, ("world:x",), {}, MISSING),
    (load_pair, UNKNOWN, (LONG,), {}, MISSING),
    (load_pair, UNKNOWN, ("~nobody-here/x",), {}, MISSING),
    (load_pair, UNKNOWN, at("loop.png"), {}, MISSING),
    (load_pair, NO_PAIR, ("",)),
    (load_pair, NO_PAIR, (None,)),
    (load_pair, NO_PAIR, (["a.png", 3],)),
    (load_pair, "a.png is one file: a pair needs two images", at("a.png")),
    (load_pair, "a pair is two images, but 3 paths .*: name the first and", files("a.png", "b.png", "cut.png")),
    (load_pair, "none.png does not exist: give the path", files("a.png", "none.png"), {}, MISSING),
    (load_pair, "identical images: there is nothing to interpolate", files("a.png", "same.png")),
    (load_pair, "larger.png is 96x80 pixels but .*64x64: bring both to one size", files("a.png", "larger.png")),
    (load_pair, "empty holds 0 image.*: a pair needs two", at("empty")),
    (load_pair, "one holds 1 image.*: a pair needs two", at("one")),
    (load_pair, "1.png is 40x40 pixels but .*: bring both", at("mixed/x")),
    (load_pair, f"size=12.5 {WHOLE}", ("world",), {"size": 12.5}),
    (load_clips, "none is no folder: give one that holds videos", at("none"), {}, MISSING),
    (load_clips, "None is no folder: give one that holds videos", (None,)),
    (load_clips, "empty holds no clip: put videos", at("empty")),
    (load_clips, f"cut.mp4 {NO_CLIP} as a video: convert it to MP4", at("cut")),
    (load_clips, f"text.mp4 {NO_CLIP} as a video: convert it", at("named")),
    (load_clips, f"list.mp4 {NO_CLIP} as a video: convert it", at("listed"), {"frames": 2}),
    (load_clips, "one.mp4 has 1 frames: .*smaller stride or number of frames", at("single"), {"frames": 2}),
    (load_clips, "1.png is 40x40 pixels, other frames of its folder are 32x32", at("mixed"), {"frames": 2}),
    (load_clips, "size='big' is out of range: give", at("named"), {"size": "big"}),
    (load_clips, f"frames=1 {WHOLE}", at("named"), {"frames": 1}),
    (load_clips, f"stride=0 {WHOLE}", at("named"), {"stride": 0}),
    (load_clips, f"windows=True {WHOLE}", at("named"), {"windows": True}),
    (cases, "'kitti:.*' is no data set .*: choose one of", lambda g: (g, "kitti:{files}")),
    (cases, "with or without the number of cases, as in world-bench:50", lambda g: (g, "world-bench:many")),
    (cases, "is not there: davis:FOLDER needs FOLDER/JPEG", lambda g: (g, "davis:{files}/none"), {}, MISSING),
    (cases, "has no sequence in JPEGImages/480p: davis:FOLDER needs", lambda g: (g, "davis:{files}/one")),
    (cases, "bear goes from frame 0 to frame 2: davis:FOLDER needs", lambda g: (g, "davis:{files}/gap")),
    (cases, "cat has 1 image.s.: cat_0.png: pairs:FOLDER needs", lambda g: (g, "pairs:{files}/half")),
    (cases, "0.png is named neither PAIR_0 nor PAIR_1", lambda g: (g, "pairs:{files}/mixed/x")),
    (cases, "holds no video: pexels:FOLDER needs", lambda g: (g, "pexels:{files}/videos")),
    (cases, f"text.mp4 {NO_CLIP} .*: convert", lambda g: (g, "pexels:{files}/named", "text.mp4")),
    (cases, "has no '../clip.mp4': it holds text.mp4", lambda g: (g, "pexels:{files}/named", "../clip.mp4")),
    (save_video, "a video's name ends in .gif", (frames, "a.avi")),
    (save_video, "the folder none does not exist; make it first", (frames, "none/a.gif"), {}, MISSING),
    (save_video, "folder.gif is a folder: name a file", lambda g: (frames, g.files / "folder.gif")),
    (save_video, "None is no path: give the name of a video", (frames, None)),
    (save_video, r"frames must be a tensor \[T,3,H,W\] with at least one", (frames[:0], "a.gif")),
    (save_video, "frames must be a tensor .*, got list", ([frames], "a.gif")),
    (save_video, "frames hold NaN or infinite values", (frames * NAN, "a.gif")),
    (save_video, r"lie in \[0,1\], these span .*; use frames.clamp", (frames * 255, "a.gif")),
    *((save_video, f"fps={fps!r} {FINITE}", (frames, "a.gif"), {"fps": fps}) for fps in (0, NAN, "8")),
    (save_figure, "name '../a': use lower-case letters", (Figure(), "../a"), {"alt": "x"}),
    (save_figure, "alt text is empty; say in a sentence", (Figure(), "a"), {"alt": " "}),
    (Lora.save, "saved as safetensors, so end it", lambda g: (lora(g), "a.bin")),
    (Lora.scale, "strength='x' is out of range: give", lambda g: (lora(g), "x")),
]


def saved(make):
    """A file of tensors, made of the shipped deltas, as an argument."""

    def arguments(ground):
        path = ground.files / "tensors.safetensors"
        save_file(make(load_file(DELTAS)), path)
        return (path,)

    return arguments


def factors(*shape, fill=0.0):
    """The two factors of one layer of a LoRA that fits no model here."""
    layer = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {f"{layer}.lora_A.weight": torch.full(shape, fill), f"{layer}.lora_B.weight": torch.zeros(8, 4)}
    return saved(lambda deltas: state)


def pickled(ground):
    torch.save({"a": torch.zeros(2)}, ground.files / "pickled.safetensors")
    return (ground.files / "pickled.safetensors",)


def with_deltas(path):
    return load_video_model(SVD, device="cpu", reverse=path)


def with_lora(path):
    from tests.robustness.harness import image_model

    try:
        load_lora(image_model(), path)
    finally:
        assert not getattr(image_model().unet, "peft_config", {}), "a refused LoRA has left a layer behind"


UNREADABLE = "cannot be read as safetensors .*: save or copy"
FOREIGN = "was fitted to another model"
MODELS = [
    (load_image_model, "does not exist: give", ("./no",), {}, MISSING),
    (load_image_model, "not exist: give", (LONG,), {}, MISSING),
    (load_image_model, "give", ("~nobody-here/x",), {}, MISSING),
    (load_image_model, "the network, or", ("acme/none",), {}, MISSING),
    (load_image_model, "is a file, .*: give 'embedded'", at("a.png")),
    (load_image_model, "source is a int: give 'embedded'", (7,)),
    (load_image_model, "load it with load_video_model", (SVD,)),
    (load_image_model, "device='gpu' .*: give 'auto'", (SD,), {"device": "gpu"}),
    (load_image_model, "dtype='half' .*: give torch.float32", (SD,), {"dtype": "half"}),
    (load_video_model, "the network, or", ("acme/none",), {}, MISSING),
    (load_video_model, "load it with load_image_model", (SD,)),
    (load_video_model, "device=3.5 .*: give 'auto', 'cpu'", (SVD,), {"device": 3.5}),
    (randomly_initialised, "model is a str: give load_image_model", ("embedded",)),
    (randomly_initialised, f"seed='x' {WHOLE}", lambda g: (g.image,), {"seed": "x"}),
    (with_deltas, "do not exist: give a file", at("none.safetensors"), {}, MISSING),
    (with_deltas, "reverse=5 .*: give a file", (5,)),
    (with_deltas, f"cut.safetensors {UNREADABLE}", at("cut.safetensors")),
    (with_deltas, f"pickled.safetensors {UNREADABLE}", pickled),
    (with_deltas, "NaN or .*: use another copy", saved(lambda state: {k: x * NAN for k, x in state.items()})),
    (with_deltas, "uint8.*: ", saved(lambda state: {k: x.byte() for k, x in state.items()})),
    (with_deltas, "another", saved(lambda state: {k: x.repeat(1, 2) for k, x in state.items()})),
    (with_deltas, "is empty: the deltas belong", saved(lambda state: {})),
    (with_lora, "does not exist: save one with", at("none.safetensors"), {}, MISSING),
    (with_lora, "None is no path of a LoRA: give a file", (None,)),
    (with_lora, "cut.safetensors is no safetensors file .*: weights load from safetensors only", at("cut.safetensors")),
    (with_lora, "pickled.safetensors is no safetensors file .*: weights load from", pickled),
    (with_lora, "holds no LoRA: save one with", (DELTAS,)),
    (with_lora, FOREIGN, factors(4, 8)),
    (with_lora, f"{FOREIGN}: .* does not fit", factors(0, 8)),
    (with_lora, "which is no matrix of a LoRA|no LoRA that diffusers can read", factors()),
    (with_lora, "not finite floats: use another copy of the LoRA", factors(4, 8, fill=NAN)),
    (load_lora, "model is a VideoModel: give load_image", lambda g: (g.video, DELTAS)),
]


@pytest.mark.parametrize("row", IMAGES + MODELS, ids=lambda row: row[0].__name__)
def test_refused(ground, row):
    refuse(ground, *row)


# a model's folder with one thing wrong: the loaders' own tests have more of them


def text(path, content):
    return lambda folder: (folder / path).write_text(content)


def config(path, **changes):
    return lambda f: (f / path).write_text(json.dumps(json.loads((f / path).read_text()) | changes))


def only_pickled(folder):
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def cut(folder):
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:50_000])


def infinite(folder):
    state = load_file(folder / UNET)
    save_file(state | {"conv_in.bias": state["conv_in.bias"] * torch.inf}, folder / UNET)


def index_points_out(folder):
    (folder / UNET).rename(folder / "outside.safetensors")
    names = {"conv_in.bias": "../outside.safetensors"}
    (folder / f"{UNET}.index.json").write_text(json.dumps({"weight_map": names}))


SPOILT = [
    (SD, lambda f: (f / "model_index.json").unlink(), "model_index.json is missing; give 'emb"),
    (SD, text("model_index.json", '{"a":' * 10**5), "model_index.json cannot be read as JSON .*: copy"),
    (SD, text("unet/config.json", "[]"), "holds a JSON list in place of an object: copy"),
    (SD, lambda f: (f / "vae/config.json").write_bytes(b"\xff\xfe{"), "as JSON .*: copy"),
    (SD, only_pickled, "(pickled|safetensors) weights.*: .*(copy|load)"),
    (SD, lambda f: torch.save({}, f / UNET), "unet.*: .*copy or download"),
    (SD, cut, "unet.*damaged.* copy or download it again"),
    (SD, infinite, "NaN or infinite weights in conv_in.bias.*: .*copy"),
    (SD, index_points_out, ": .*copy "),
    (SD, config("unet/config.json", block_out_channels=[32, 64, 64, 64]), "cannot be loaded"),
    (SD, config("unet/config.json", in_channels=9), "9 channels .*: use a text-to-image"),
    (SD, text("tokenizer/vocab.json", "{}"), "tokenizer .*(cannot be loaded|tokens).*: "),
    (SD, config("unet/config.json", sample_size="big"), "sample_size='big': one whole number"),
    (SVD, only_pickled, "(pickled|safetensors) weights.*: .*(copy|load)"),
    (SVD, cut, "unet.*damaged.* copy or download it again"),
    (SVD, config("scheduler/scheduler_config.json", beta_end="x"), "no noise sch"),
]


@pytest.mark.parametrize(("source", "spoil", "says"), SPOILT)
def test_a_spoilt_folder_is_refused(ground, source, spoil, says):
    spoil(copy_model(source, ground.out / "model"))
    load = load_image_model if source == SD else load_video_model
    refuse(ground, load, says, (ground.out / "model",), {"device": "cpu"})


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


def test_what_the_system_says_of_a_place_is_passed_on_before_or_after_the_work(ground, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        refuse(ground, text_file, r"a.json cannot be written \(No space left on device\)", ("a.json",), {}, OSError)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for anybody but root in a folder of mode 0555
    refuse(ground, save_video, "a.mp4 cannot be written, .* is read-only: name another place", (frames, "a.mp4"))


@pytest.mark.parametrize("name", ["..", "../world:0", "/etc/passwd", "a\\..\\b", "."])
def test_the_name_of_a_case_stays_in_the_folder_of_another_tool(ground, name):
    (ground.out / "tool").mkdir()
    for folder in (ground.out, ground.out.parent):
        (folder / "0.png").write_bytes((ground.files / "a.png").read_bytes())
    says = "has no frames for .*: write them as PNG files into"
    refuse(ground, find_frames, says, (ground.out / "tool", name), {}, MISSING)


@pytest.mark.parametrize("name", ["a:b.mp4", "-a.mp4", "concat:a.mp4", "é 1.mp4"])
def test_names_that_ffmpeg_would_read_as_something_else(ground, name):
    save_video(frames, name)  # in the current folder, which is the row's own
    assert [path.name for path in ground.out.iterdir()] == [name]
