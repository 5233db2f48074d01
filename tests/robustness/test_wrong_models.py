"""Wrong model folders, deltas and LoRA files; the tests of the loaders have more ways to spoil a folder."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp_lib import (
    fit_backward_motion,
    fit_lora,
    load_image_model,
    load_lora,
    load_video_model,
    randomly_initialised,
)
from tests.robustness.ground import DELTAS, SD, SVD, copy_model
from tests.robustness.harness import Row, refuse

UNET = "unet/diffusion_pytorch_model.safetensors"
LONG, MISSING = "x" * 400, FileNotFoundError


def spoilt(about, source, spoil, says, load=load_image_model, kind=ValueError):
    """A copy of a model's folder in which one thing is wrong; made before the row's folder is looked at."""

    def call(ground):
        load(ground.out / "model", device="cpu")

    def prepare(ground):
        spoil(copy_model(source, ground.out / "model"))

    return Row(f"{load.__name__}: {about}", call, says, kind), prepare


def text(path, content):
    return lambda folder: (folder / path).write_text(content)


def config(path, **changes):
    return lambda f: (f / path).write_text(json.dumps(json.loads((f / path).read_text()) | changes))


def only_pickled(end):
    return lambda folder: [path.rename(path.with_suffix(end)) for path in folder.rglob("*.safetensors")]


def cut(folder):
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:50_000])


def infinite(folder):
    state = load_file(folder / UNET)
    save_file(state | {"conv_in.bias": state["conv_in.bias"] * torch.inf}, folder / UNET)


def disguised(folder):
    """A pickle under the name of a safetensors file."""
    torch.save({"conv_in.bias": torch.zeros(4)}, folder / UNET)


def index_points(where):
    """An index of shards that points out of the folder."""

    def spoil(folder):
        (folder / UNET).rename(folder / "outside.safetensors")
        names = {"conv_in.bias": where.format(folder=folder)}
        (folder / f"{UNET}.index.json").write_text(json.dumps({"weight_map": names}))

    return spoil


IN_FOLDERS = [
    spoilt("nothing in it", SD, lambda f: (f / "model_index.json").unlink(), "model_index.json is missing; give 'emb"),
    spoilt("half a JSON", SD, text("model_index.json", "{"), "model_index.json cannot be read as JSON .*: copy"),
    spoilt("a JSON too deep", SD, text("model_index.json", '{"a":' * 10**5), "cannot be read as JSON .*: copy"),
    spoilt("a JSON list", SD, text("unet/config.json", "[]"), "holds a JSON list in place of an object: copy"),
    spoilt("bytes for JSON", SD, lambda f: (f / "vae/config.json").write_bytes(b"\xff\xfe{"), "as JSON .*: copy"),
    spoilt("only .bin", SD, only_pickled(".bin"), "no safetensors weights.*: .*copy or download it again"),
    spoilt("only .ckpt", SD, only_pickled(".ckpt"), "no safetensors weights.*: .*copy or download it again"),
    spoilt("a pickle in disguise", SD, disguised, "unet cannot be loaded .*: .*copy or download"),
    spoilt("truncated weights", SD, cut, "unet cannot be loaded .*: .*damaged.* copy or download it again"),
    spoilt("infinite weights", SD, infinite, "NaN or infinite weights in conv_in.bias.*: .*copy"),
    spoilt(
        "an empty weights file", SD, text(UNET, ""), "unet cannot be loaded .*: .*damaged.* copy or download it again"
    ),
    spoilt(
        "weights above it",
        SD,
        index_points("../outside.safetensors"),
        "no safetensors weights.*: .*copy or download it again",
    ),
    spoilt(
        "weights elsewhere",
        SD,
        index_points("{folder}/outside.safetensors"),
        "no safetensors weights.*: .*copy or download it again",
    ),
    spoilt(
        "a config of others", SD, config("unet/config.json", block_out_channels=[32, 64, 64, 64]), "cannot be loaded"
    ),
    spoilt("an inpainting model", SD, config("unet/config.json", in_channels=9), "9 channels .*: use a text-to-image"),
    spoilt("no tokens", SD, text("tokenizer/vocab.json", "{}"), "tokenizer .*(cannot be loaded|tokens).*: "),
    spoilt("a size of words", SD, config("unet/config.json", sample_size="big"), "sample_size='big': one whole number"),
    spoilt(
        "only .bin",
        SVD,
        only_pickled(".bin"),
        "no safetensors weights.*: .*copy or download it again",
        load_video_model,
    ),
    spoilt(
        "truncated weights",
        SVD,
        cut,
        "unet cannot be loaded .*: .*damaged.* copy or download it again",
        load_video_model,
    ),
    spoilt("infinite weights", SVD, infinite, "NaN or infinite weights in conv_in.bias.*: .*copy", load_video_model),
    spoilt("no steps", SVD, config("scheduler/scheduler_config.json", beta_end="x"), "no noise sch", load_video_model),
]


@pytest.mark.parametrize("case", IN_FOLDERS, ids=lambda case: f"{case[0].about}")
def test_a_spoilt_folder_is_refused(ground, case):
    row, prepare = case
    prepare(ground)
    refuse(row, ground)


def saved(ground, name, state):
    path = ground.files / name
    save_file(state, path)
    return path


def deltas(change):
    return {name: change(value) for name, value in load_file(DELTAS).items()}


def factors(rows, fill=0.0, layer="unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"):
    """The two factors of one layer, of a LoRA of `rows` ranks that no model here has."""
    shape = (rows, 8) if isinstance(rows, int) else rows
    return {f"{layer}.lora_A.weight": torch.full(shape, fill), f"{layer}.lora_B.weight": torch.zeros(8, 4)}


def lora(about, make, says, kind=ValueError):
    return Row(f"load_lora: {about}", lambda g: load_lora(g.image, make(g)), says, kind)


def with_deltas(about, make, says, kind=ValueError):
    return Row(f"load_video_model: {about}", lambda g: load_video_model(SVD, device="cpu", reverse=make(g)), says, kind)


def cut_deltas(ground):
    (ground.files / "cut.safetensors").write_bytes(DELTAS.read_bytes()[:1000])
    return ground.files / "cut.safetensors"


def pickled_deltas(ground):
    torch.save(load_file(DELTAS), ground.files / "pickled.safetensors")
    return ground.files / "pickled.safetensors"


def nan(x):
    return x * torch.nan


ROWS = [
    Row("load_image_model: no folder", lambda g: load_image_model(g.out / "no"), "does not exist: give", MISSING),
    Row("load_image_model: a name too long", lambda g: load_image_model(LONG), "not exist: give", MISSING),
    Row("load_image_model: an unknown user", lambda g: load_image_model("~nobody-here/x"), "give", MISSING),
    Row("load_image_model: a loop", lambda g: load_image_model(g.files / "loop"), "not exist: give", MISSING),
    Row("load_image_model: no network", lambda g: load_image_model("acme/none"), "the network, or", MISSING),
    Row("load_image_model: a file", lambda g: load_image_model(g.files / "a.png"), "is a file, .*: give 'embedded'"),
    Row("load_image_model: no name", lambda g: load_image_model(7), "source is a int: give 'embedded'"),
    Row("load_image_model: a video model", lambda g: load_image_model(SVD), "load it with load_video_model"),
    Row("load_image_model: device", lambda g: load_image_model(SD, device="gpu"), "device='gpu' .*: give 'auto'"),
    Row("load_image_model: dtype", lambda g: load_image_model(SD, dtype="half"), "dtype='half' .*: give torch.float32"),
    Row("load_video_model: no network", lambda g: load_video_model("acme/none"), "the network, or", MISSING),
    Row("load_video_model: an image model", lambda g: load_video_model(SD), "load it with load_image_model"),
    Row("load_video_model: device", lambda g: load_video_model(SVD, device=3.5), "device=3.5 .*: give 'auto', 'cpu'"),
    Row("untrained: a name", lambda g: randomly_initialised("embedded"), "model is a str: give load_image_model"),
    Row(
        "untrained: seed",
        lambda g: randomly_initialised(g.image, seed="x"),
        "seed='x' is out of range: give a whole number",
    ),
    with_deltas("deltas missing", lambda g: g.out / "none.safetensors", "do not exist: give a file", MISSING),
    with_deltas("deltas by number", lambda g: 5, "reverse=5 .*: give a file"),
    with_deltas("deltas truncated", cut_deltas, "cut.safetensors cannot be read as safetensors .*: save or copy"),
    with_deltas("deltas pickled", pickled_deltas, "pickled.safetensors cannot be read as safetensors .*: save or"),
    with_deltas("deltas of NaN", lambda g: saved(g, "n.safetensors", deltas(nan)), "NaN or .*: use another copy"),
    with_deltas("deltas of bytes", lambda g: saved(g, "b.safetensors", deltas(lambda x: x.byte())), "uint8.*: "),
    with_deltas("deltas too wide", lambda g: saved(g, "w.safetensors", deltas(lambda x: x.repeat(1, 2))), "another"),
    with_deltas("deltas of none", lambda g: saved(g, "e.safetensors", {}), "is empty: the deltas belong"),
    lora("missing", lambda g: g.out / "none.safetensors", "does not exist: save one with", MISSING),
    lora("a name too long", lambda g: LONG, "does not exist: save one with", MISSING),
    lora("no path", lambda g: None, "None is no path of a LoRA: give a file"),
    lora("truncated", cut_deltas, "cut.safetensors is no safetensors file .*: weights load from safetensors only"),
    lora("pickled", pickled_deltas, "pickled.safetensors is no safetensors file .*: weights load from"),
    lora("deltas for a LoRA", lambda g: DELTAS, "holds no LoRA: save one with"),
    lora("of another model", lambda g: saved(g, "o.safetensors", factors(4)), "was fitted to another model"),
    lora("of rank 0", lambda g: saved(g, "0.safetensors", factors(0)), "was fitted to another model: .* does not fit"),
    lora(
        "of a number",
        lambda g: saved(g, "s.safetensors", factors(())),
        "which is no matrix of a LoRA|no LoRA that diffusers can read",
    ),
    lora(
        "of NaN",
        lambda g: saved(g, "nl.safetensors", factors(4, torch.nan)),
        "not finite floats: use another copy of the LoRA",
    ),
    Row("load_lora: a video model", lambda g: load_lora(g.video, DELTAS), "model is a VideoModel: give load_image"),
    Row("fit_lora: a name", lambda g: fit_lora("embedded", g.first), "model is a str: give load_image_model"),
    Row("fit_backward_motion: a name", lambda g: fit_backward_motion("x", g.first, steps=1), "a str: give load_video"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_refused(ground, row):
    refuse(row, ground)
    assert not getattr(ground.image.unet, "peft_config", {}), "a refused LoRA has left a layer behind"
