"""Tables: written, read, refused when they belong to other weights; means, spreads and numbers."""

import json
import math

import pandas as pd
import pytest

from interp_lib.bench.content_hash import weights_hash
from interp_lib.bench.tables import as_text, load_results, ranking, select, summarise, write_results

TABLE = pd.DataFrame(
    [
        {"method": "b", "psnr": 20.0, "we": 0.1},
        {"method": "b", "psnr": 22.0, "we": 0.3},
        {"method": "a", "psnr": math.inf, "we": 0.4},
        {"method": "a", "psnr": 30.0, "we": "n/a: weights"},
        {"method": "a", "psnr": 99.0, "we": 0.0, "status": "failed"},
        {"method": "c"},
    ]
)
TABLE["status"] = TABLE["status"].fillna("ok")


def test_means_spreads_and_numbers():
    summary = summarise(TABLE, ["psnr", "we"])
    assert list(summary.index) == ["b", "a", "c"]
    assert tuple(summary.loc["b", "psnr"]) == pytest.approx((21, math.sqrt(2), 2))
    assert summary.loc["a", ("psnr", "mean")] == math.inf and summary.loc["a", ("psnr", "n")] == 2
    assert summary.loc["a", ("we", "mean")] == 0.4 and math.isnan(summary.loc["a", ("we", "std")])
    assert summary.loc["c", ("psnr", "n")] == 0
    with pytest.raises(ValueError, match="by='cas' is no column"):
        summarise(TABLE, ["psnr"], by="cas")


def test_the_order_respects_what_is_better():
    summary = summarise(TABLE, ["psnr", "we"])
    assert ranking(summary, "psnr") == ["a", "b"] and ranking(summary, "we") == ["b", "a"]
    wide = pd.DataFrame({"method": ["a", "b", "c"], "spread": [1.4, 0.9, 0.5]})
    assert ranking(summarise(wide, ["spread"]), "spread") == ["b", "a", "c"]
    with pytest.raises(ValueError, match="column='ssim' is not in the summary"):
        ranking(summary, "ssim")


def test_the_text_marks_what_is_missing():
    lines = as_text(summarise(TABLE, ["psnr", "we"]), digits=1).splitlines()
    assert lines[1].split() == ["b", "21.0", "+-", "1.4", "0.2", "+-", "0.1", "2"]
    assert lines[3].split() == ["c", "n/a", "n/a", "0"]
    assert "0.4 (1)" in lines[2] and len({len(line) for line in lines}) == 1


def test_a_table_is_read_as_it_was_written_and_refused_for_other_weights(tmp_path):
    content = {"about": "two", "model": "embedded", "version": 1, "weights": {"image": weights_hash("image")}}
    path = write_results(tmp_path / "x.json", content, [{"a": 1, "b": math.inf}, {"a": 2, "c": "word"}])
    table = load_results("x", folder=tmp_path)
    assert list(table["a"]) == [1, 2] and table["b"][0] == math.inf and table["c"][1] == "word"
    assert table["b"].isna()[1] and table.attrs["about"] == "two" and table.attrs["version"] == 1
    assert select(table, a=2, c="word")["a"].tolist() == [2] and select(table, a=3).empty
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights": {"image": "another"}}))
    with pytest.raises(ValueError, match="other weights of the image model: run `python -m experiments.studies x`"):
        load_results("x", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no table '../x': there are x"):
        load_results("../x", folder=tmp_path)
