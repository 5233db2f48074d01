"""The benchmark: resumable, deterministic, and a failure is a row."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from interp_lib.bench import methods
from interp_lib.bench.benchmark import benchmark
from interp_lib.bench.content_hash import case_hashes, content_hash, weights_hash
from interp_lib.bench.tables import select
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
    return benchmark(methods, pairs, out, **{"frames": 3, "progress": False, "workers": 1} | how)


def test_every_result_is_a_row_and_a_failure_has_its_reason(pairs, tmp_path):
    table = run(CHEAP, pairs, tmp_path)
    assert len(table) == 9 and set(select(table, method="cross-dissolve")["status"]) == {"ok"}
    (failed,) = select(table, method="truth", case="bare").to_dict("records")
    assert failed["status"] == "failed" and "true frames" in failed["reason"]
    assert (select(table, method="truth", status="ok")["psnr"] > 100).all()
    read = pd.read_csv(tmp_path / "table.csv")
    assert list(read.columns[:5]) == ["method", "case", "seed", "status", "reason"] and len(read) == 9
    assert "seconds" in table and not {"seconds", "device", "file"} & set(read)
    assert np.asarray(Image.open(next((tmp_path / "frames").iterdir()))).shape == (32, 5 * 32, 3)


@pytest.mark.parametrize(
    "method, change, lost",
    [("truth", {"reason": "old"}, "old"), ("cross-dissolve", {"lpips": "n/a: weights"}, "n/a: weights")],
)
def test_what_is_there_is_computed_again_on_request_alone(pairs, tmp_path, method, change, lost):
    run(method, pairs[2], tmp_path)
    (path,) = (tmp_path / "items").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert lost in run(method, pairs[2], tmp_path).loc[0].values
    assert lost not in run(method, pairs[2], tmp_path, retry=True).loc[0].values


@pytest.mark.long
@pytest.mark.parametrize("how", [{"workers": 2}, {"ray": "local"}])
def test_workers_and_ray_write_the_same_table(pairs, tmp_path, how):
    if "ray" in how:
        pytest.importorskip("ray", reason="ray is not installed: pip install 'interp_lib[ray]'")
    run(CHEAP, ["world:0", *pairs], tmp_path / "serial")
    run(CHEAP, ["world:0", *pairs], tmp_path / "parallel", **how)
    assert (tmp_path / "serial" / "table.csv").read_bytes() == (tmp_path / "parallel" / "table.csv").read_bytes()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"pairs": [3]}, "3 is no case"),
        ({"frames": 0}, "frames=0 is out of range"),
        ({"seeds": [-1]}, "seeds=-1 is out of range"),
        ({"settings": {"steps": [3]}, "methods": ["latent slerp"]}, "give numbers, texts and switches only"),
        ({"size": 2}, "size=2 is out of range"),
        ({"frames": 5}, "clip 0 has 5 true frames, both ends included: ask for frames=3"),
    ],
)
def test_wrong_input_is_one_sentence_before_any_work(pairs, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        benchmark(**{"methods": "truth", "pairs": pairs, "out": tmp_path / "out", "frames": 3} | change)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error, reason", [(KeyError("weight"), "'weight'"), (MemoryError(), "out of memory: try")])
def test_whatever_a_method_raises_is_a_row_and_the_sweep_goes_on(pairs, tmp_path, monkeypatch, error, reason):
    def broken(model, pair, *, frames, seed):
        raise error

    monkeypatch.setitem(methods.METHODS, "nearest keyframe", methods.Method(broken))
    table = run(["nearest keyframe", "cross-dissolve"], pairs[0], tmp_path)
    assert list(table["status"]) == ["failed", "ok"] and table["reason"][0].startswith(reason)


def test_a_result_depends_on_what_it_is_computed_from(pairs, tmp_path):
    """The hash in `file` differs for everything that can change a digit, and for nothing else."""

    def file(case, method="cross-dissolve", **how):
        return run(method, case, tmp_path, **how)["file"][0]

    known = pairs[0]
    assert file(known) == file(known, device="cpu")
    others = [
        file(pairs[1]),
        file(replace(known, caption="a dog")),
        file(replace(known, flow01=torch.zeros(1, 2, 32, 32))),
        file(known, metrics="psnr"),
        file(known, seeds=[1]),
        file(known, method="truth"),
        file(pairs[2], frames=4),
        file(pairs[2], frames=3),
    ]
    assert len({file(known), *others}) == 1 + len(others)


def test_files_are_hashed_by_their_content(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        (folder / "inside").mkdir(parents=True)
        (folder / "inside" / "0.png").write_bytes(b"picture")
    (b / "README.md").write_text("words")  # says nothing about the results
    assert content_hash(a) == content_hash(b)
    assert len(set(case_hashes([f"pairs:{a}:x", f"pairs:{b}:x", f"pairs:{b}:y"]))) == 2
    (b / "inside" / "0.png").write_bytes(b"another")
    assert content_hash(a) != content_hash(b) and case_hashes([f"pairs:{a}:x"]) != case_hashes([f"pairs:{b}:x"])
    assert weights_hash("image", str(a)) != weights_hash("image", str(b))
    assert weights_hash("image", "owner/model") == "owner/model"
    assert content_hash([1, 2], 3) != content_hash([1], 2, 3) != content_hash(1, [2], 3)
