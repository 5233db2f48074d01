"""The benchmark's plumbing: resumable, deterministic, honest about what failed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib.bench.baselines import pixels
from interp_lib.bench.cases import Case
from interp_lib.bench.methods import METHODS, Method
from interp_lib.bench.runner import benchmark, plan
from interp_lib.types import Pair

CHEAP = ["truth", "cross-dissolve", "shuffled"]


@pytest.fixture(scope="module")
def pairs():
    """Two pairs with 3 true frames between, and one without any."""
    generator = torch.Generator().manual_seed(0)
    clips = [torch.rand(5, 3, 32, 32, generator=generator) for _ in range(3)]
    known = [Pair(f"clip {k}", clip[:1], clip[-1:], frames=clip) for k, clip in enumerate(clips[:2])]
    return [*known, Pair("bare", clips[2][:1], clips[2][-1:])]


def run(methods, pairs, out, **how):
    return benchmark(methods, pairs, out, frames=3, progress=False, **({"workers": 1} | how))


def test_every_result_is_a_row_and_a_failure_keeps_its_reason(pairs, tmp_path):
    table = run(CHEAP, pairs, tmp_path)
    assert len(table.rows) == 9
    assert table.column("status", method="cross-dissolve") == ["ok"] * 3
    (failed,) = table.where(method="truth", case="bare")
    assert failed["status"] == "failed" and "has none true frames" in failed["reason"]
    assert all(row["psnr"] == float("inf") or row["psnr"] > 100 for row in table.where(method="truth", status="ok"))
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 10 and lines[0].startswith("method,case,seed,status,reason,")
    strip = np.asarray(Image.open(next((tmp_path / "frames").iterdir())))
    assert strip.shape == (32, 5 * 32, 3)


@pytest.mark.long
def test_what_is_there_is_not_made_again(pairs, tmp_path):
    run(CHEAP, pairs, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "items").iterdir()}
    before = (tmp_path / "table.csv").read_bytes()
    run([*CHEAP], pairs, tmp_path)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "items").iterdir()}
    assert before == (tmp_path / "table.csv").read_bytes()
    run(CHEAP, pairs, tmp_path, seeds=2)
    assert len(list((tmp_path / "items").iterdir())) == 2 * len(files)


def test_a_failed_item_is_tried_again_when_asked(pairs, tmp_path):
    run(["truth"], pairs[2], tmp_path)
    (path,) = (tmp_path / "items").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reason": "old"}))
    assert run(["truth"], pairs[2], tmp_path).rows[0]["reason"] == "old"
    assert run(["truth"], pairs[2], tmp_path, retry=True).rows[0]["reason"] != "old"


@pytest.mark.long
def test_two_workers_write_the_same_table(pairs, tmp_path):
    for name, workers in (("serial", 1), ("parallel", 2)):
        run(CHEAP, ["world:0", *pairs], tmp_path / name, workers=workers)
    assert (tmp_path / "serial" / "table.csv").read_bytes() == (tmp_path / "parallel" / "table.csv").read_bytes()
    assert len((tmp_path / "serial" / "table.csv").read_text().splitlines()) == 13


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"methods": ["nothing"]}, "there is no method 'nothing'"),
        ({"methods": []}, "there is nothing to do"),
        ({"pairs": []}, "there is nothing to do"),
        ({"pairs": [3]}, "3 is no case"),
        ({"pairs": "nowhere"}, "nowhere"),
        ({"frames": 0}, "frames=0 is out of range"),
        ({"seeds": 0}, "seeds=0 is out of range"),
        ({"seeds": [-1]}, "seeds=-1 is out of range"),
        ({"settings": {"inversion_steps": 3}}, "settings has 'inversion_steps', which none of these methods takes"),
        ({"settings": {"steps": [3]}, "methods": ["latent slerp"]}, "give numbers, texts and switches only"),
        ({"metrics": ["psnr", "sharpness"]}, "metrics='sharpness' is unknown"),
        ({"size": 2}, "size=2 is out of range"),
        ({"workers": 0}, "workers=0 is out of range"),
        ({"seeds": 1.5}, "seeds=1.5 is out of range"),
        ({"frames": 5}, "clip 0 has 5 true frames, both ends included: ask for frames=3"),
    ],
)
def test_wrong_input_is_one_sentence_before_any_work(pairs, tmp_path, change, sentence):
    how = {"methods": ["cross-dissolve"], "pairs": pairs, "out": tmp_path / "out", "frames": 3} | change
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        benchmark(**how)
    assert not (tmp_path / "out").exists()


def digests(*cases, methods="latent slerp", **how):
    return [item.digest for item in plan(methods, list(cases), **({"frames": 3} | how))[0]]


@pytest.mark.long
def test_the_name_of_a_result_depends_on_what_it_is_made_from(pairs):
    here = digests(pairs[0])
    assert here == digests(pairs[0]) == digests(pairs[0], device="cpu", save_frames=False)
    others = [
        digests(pairs[1]),
        digests(replace(pairs[0], caption="a dog")),
        digests(replace(pairs[0], flow01=torch.zeros(1, 2, 32, 32))),
        digests(Case(pairs[0], ground=pairs[0].image0)),
        digests(pairs[0], settings={"inversion_steps": 14}),
        digests(pairs[0], metrics="psnr"),
        digests(pairs[0], seeds=[1]),
        digests(pairs[0], methods="latent lerp"),
        digests(pairs[0], model="another"),
    ]
    assert len({here[0], *(other[0] for other in others)}) == 1 + len(others)
    assert digests("world:0", frames=3) != digests("world:0", frames=4) != digests("world:1", frames=4)


def test_files_that_change_change_the_name_of_a_result(tmp_path):
    for name, grey in (("0.png", 50), ("1.png", 200)):
        (tmp_path / "pairs" / "cat").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (grey, 0, 0)).save(tmp_path / "pairs" / "cat" / name)
    spec = f"pairs:{tmp_path / 'pairs'}"
    before = digests(spec, methods="cross-dissolve")
    assert before == digests(spec, methods="cross-dissolve")
    Image.new("RGB", (64, 64), (51, 9, 0)).save(tmp_path / "pairs" / "cat" / "0.png")
    assert digests(spec, methods="cross-dissolve") != before


def test_whatever_a_method_raises_is_a_row(pairs, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("weight")

    monkeypatch.setitem(METHODS, "nearest keyframe", Method(broken))
    table = run(["nearest keyframe", "cross-dissolve"], pairs[0], tmp_path)
    assert table.column("status") == ["failed", "ok"] and "weight" in table.rows[0]["reason"]


def test_what_lacked_weights_is_tried_again_when_asked(pairs, tmp_path):
    run(["cross-dissolve"], pairs[0], tmp_path)
    (path,) = (tmp_path / "items").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lpips": "n/a: weights"}))
    assert "lpips" in run(["cross-dissolve"], pairs[0], tmp_path).rows[0]
    assert "lpips" not in run(["cross-dissolve"], pairs[0], tmp_path, retry=True).rows[0]


def test_ray_writes_the_same_table(pairs, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'interp_lib[ray]'")
    run(CHEAP, ["world:0", *pairs], tmp_path / "serial")
    run(CHEAP, ["world:0", *pairs], tmp_path / "ray", ray="local")
    assert (tmp_path / "serial" / "table.csv").read_bytes() == (tmp_path / "ray" / "table.csv").read_bytes()


def test_a_method_of_your_own_is_a_function_and_a_line(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", Method(pixels.nearest_keyframe))
    (row,) = run("mine", pairs[2], tmp_path).rows
    assert row["status"] == "ok"
    frames = pixels.nearest_keyframe(None, pairs[2], frames=3, seed=0).frames
    assert torch.equal(frames[:3], pairs[2].image0.expand(3, -1, -1, -1))
    assert torch.equal(frames[3:], pairs[2].image1.expand(2, -1, -1, -1))
