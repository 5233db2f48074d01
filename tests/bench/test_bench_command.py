import json
import re
from pathlib import Path

import pytest
import torch

from interp_lib import load_image_model
from interp_lib.bench.__main__ import main
from interp_lib.bench.speed.parts import measure_parts

TINY = Path(__file__).resolve().parents[1] / "conformance" / "dreammover" / "tiny_sd"
SVD = TINY.parents[1] / "inbetween" / "tiny_svd"


@pytest.mark.long
def test_parts_count_the_minimum_of_calls_and_restore_the_model():
    model = load_image_model(TINY, device="cpu")
    images = torch.rand(2, 3, 64, 64)
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}
    cost = measure_parts(model, images, frames=5, steps=10, inversion_steps=6, batch_size=3, lora_steps=1)
    # 6 of the inversion, 1 for the features, 6 of the endpoints, all at batch 2; per step 3 + 2 middle frames
    assert cost["unet_calls"] == {2: 6 + 1 + 6 + 6, 3: 6}
    assert list(cost["seconds"]) == ["lora", "encode", "inversion", "flow", "denoise", "decode"]
    assert min(cost["seconds"].values()) > 0
    after = model.unet.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not model.unet._forward_pre_hooks


SMALL = ["--model", str(TINY), "--size", "64", "--frames", "4", "--steps", "4", "--lora-steps", "1"]


@pytest.mark.long
def test_the_table_is_written_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INTERP_FIGURES", str(tmp_path / "figures"))
    out = tmp_path / "new" / "bench.json"
    small = ["--positions", "12", "--channels", "64", "--out", str(out)]
    assert main(["parts", "overhead", "flow", "chunks", "lora", *SMALL, *small]) == 0
    table, said = json.loads(out.read_text()), capsys.readouterr().out
    assert table["about"]["size"] == 64 and table["overhead"]["unet_batches"] == [2, 2, 2, 2, 4, 2, 4]
    assert 0.5 < table["overhead"]["overhead"] < 3 and "interpolate over the bare U-Net calls" in said
    assert table["flow"]["faster"] > 1 and table["flow"]["agree"] == 1
    assert table["chunks"]["difference"] < 1e-4
    assert 0.3 < table["lora"]["lora_over_bare"] < 10
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
    assert (tmp_path / "figures" / "bench.png").stat().st_size > 5000


@pytest.mark.long
def test_the_whole_methods_are_measured_in_half_precision(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INTERP_FIGURES", str(tmp_path / "figures"))
    small = ["--video-model", str(SVD), "--video-size", "64x128", "--video-frames", "3", "--recurrence", "1"]
    small += ["--dtype", "bfloat16", "--out", str(tmp_path / "bench.json")]
    assert main(["image", "video", *SMALL, "--inversion-steps", "2", *small]) == 0
    table = json.loads((tmp_path / "bench.json").read_text())
    assert table["image"]["unet_calls"] == 2 + 1 + 2 * 2 and table["video"]["unet_calls"] == 4 + 2
    for part in ("image", "video"):
        assert 0 < table[part]["share"] < 1 and table[part]["memory_mib"] > 100
        assert 20 < table[part]["psnr"] < 90  # not the same, and near
        assert table[part]["unet_operations"] > 1e6
    assert not (tmp_path / "figures").exists()  # nothing of these two is drawn


def test_a_model_that_is_none_is_one_sentence(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "none"), "--out", str(tmp_path / "a.json")]) == 2
    assert "none" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, word",
    [
        (["--size", "60"], "--size 60 .* multiple of 8"),
        (["--pair", "nowhere"], "nowhere"),
        (["--out", "."], "--out .*folder"),
        (["--video-model", str(SVD), "--video-size", "60x64"], "--video-size .* multiples of"),
    ],
)
def test_one_sentence_before_anything_is_timed(options, word, tmp_path, capsys):
    assert main(["--model", str(TINY), "--out", str(tmp_path / "a.json"), *options]) == 2
    said = capsys.readouterr().err
    assert re.search(word, said) and said.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frames", ["0", "x"])
def test_wrong_counts_end_the_program(frames, tmp_path):
    with pytest.raises(SystemExit):
        main(["--model", str(TINY), "--frames", frames, "--out", str(tmp_path / "a.json")])
