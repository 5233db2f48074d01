"""Means, spreads and numbers of a table."""

import math

from interp_lib.bench.summary import as_text, ranking, summarise

ROWS = [
    {"method": "a", "psnr": 20.0, "we": 0.1},
    {"method": "a", "psnr": 22.0, "we": 0.3},
    {"method": "b", "psnr": math.inf, "we": 0.4},
    {"method": "b", "psnr": 30.0, "we": "n/a: weights"},
    {"method": "b", "psnr": 99.0, "we": 0.0, "status": "failed"},
    {"method": "c"},
]


def test_means_spreads_and_numbers():
    summary = summarise(ROWS, ["psnr", "we"])
    assert list(summary) == ["a", "b", "c"]
    assert summary["a"]["psnr"] == (21.0, math.sqrt(2), 2)
    mean, std, n = summary["b"]["psnr"]
    assert (mean, n) == (math.inf, 2) and math.isnan(std)
    assert summary["b"]["we"][2] == 1 and math.isnan(summary["b"]["we"][1])
    assert summary["b"]["we"][0] == 0.4 and summary["c"]["psnr"][2] == 0


def test_the_order_knows_which_way_is_better():
    summary = summarise(ROWS, ["psnr", "we"])
    assert ranking(summary, "psnr") == ["b", "a"] and ranking(summary, "we") == ["a", "b"]
    wide = [{"method": k, "spread": x} for k, x in (("a", 1.4), ("b", 0.9), ("c", 0.5))]
    assert ranking(summarise(wide, ["spread"]), "spread") == ["b", "a", "c"]


def test_the_text_says_what_is_missing():
    lines = as_text(summarise(ROWS, ["psnr", "we"]), digits=1).splitlines()
    assert lines[1].split() == ["a", "21.0", "+-", "1.4", "0.2", "+-", "0.1", "2"]
    assert lines[3].split() == ["c", "n/a", "n/a", "0"]
    assert "0.4 (1)" in lines[2]
