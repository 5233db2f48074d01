"""The forecast: its rank correlation is Spearman's, its tables say what was measured, and its page is up to date."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from interp_lib import load_results
from interp_lib.bench.forecast import COMMAND, QUALITIES, joined, main, rank_correlation, report
from interp_lib.bench.page import END, begin, put
from interp_lib.bench.studies.suitability import GROUPS, QUANTITIES
from interp_lib.bench.tables import TABLES
from interp_lib.dreammover.suitability import LIMITS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "failures.md"


def test_rank_correlation_is_spearmans_and_its_interval_is_the_bootstraps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    x[:5] = x[5]  # ties
    rho, low, high = rank_correlation(x, y)
    assert rho == pytest.approx(spearmanr(x, y).statistic) and low < rho < high
    draws = [rng.integers(0, 60, 60) for _ in range(400)]
    slow = np.quantile([spearmanr(x[d], y[d]).statistic for d in draws], [0.025, 0.975])
    assert np.allclose([low, high], slow, atol=0.06)
    assert rank_correlation(x, y) == (rho, low, high) and rank_correlation(y, x)[0] == pytest.approx(rho)
    assert rank_correlation(x, np.exp(-x))[0] == pytest.approx(-1)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 1, 1], [1, 2, 3])])
def test_numbers_that_have_no_rank_correlation(x, y):
    with pytest.raises(ValueError, match="three pairs or more"):
        rank_correlation(x, y)


def row(k, score):
    rest = dict.fromkeys(QUANTITIES, 0.5) | {name: k / 10 + j for j, name in enumerate(QUANTITIES)}
    return rest | {"case": f"world:{k}", "score": score} | {name: 10.0 + k for name in QUALITIES}


def test_the_report_counts_warned_pairs_and_lists_the_worst():
    rows = [row(k, LIMITS["score"] + (k - 3) / 100) for k in range(10)]
    lines = report(rows, rows[:4]).splitlines()
    table = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "|" in line
    }
    assert table["with a warning"] == ["3", *["11"] * len(QUALITIES)] and table["without"][0] == "7"
    assert table["score, world-bench (10 pairs)"][0].startswith("+1.00 [+1.00") and "world:9" not in table
    assert list(table).index("world:0") < list(table).index("world:7") and table["world:2"][0] == "12.0"


def test_a_page_keeps_what_is_around_the_tables(tmp_path):
    marks = begin(COMMAND), END
    page, new = "before\n{}\nold\n{}\nafter\n".format(*marks), "before\n{}\n\nnew\n\n{}\nafter\n".format(*marks)
    assert put(page, "new\n", COMMAND) == new == put(put(page, "x\n", COMMAND), "new\n", COMMAND)


def test_the_study_has_the_cases_of_the_tables_and_judges_none_that_it_was_chosen_on():
    assert sorted(GROUPS["clips"]) == sorted(TABLES["clips"].cases)
    names = {item.name for item in TABLES["interpolation"].plan()[0]}
    assert names == set(GROUPS["judged"]) and not names & set(GROUPS["limits"])


def test_the_limits_are_the_quartiles_of_the_pairs_set_apart():
    study = load_results("suitability")
    for name, limit in LIMITS.items():
        share = 0.25 if name == "score" else 0.75
        assert limit == round(float(np.quantile(study.column(name, group="limits"), share)), 2)


@pytest.mark.long
def test_the_page_has_the_tables_that_were_computed(tmp_path, capsys):
    page, text = PAGE.read_text(), report(joined("judged"), joined("clips"))
    assert put(page, text, COMMAND) == page
    copy = tmp_path / "page.md"
    copy.write_text(put(page, "old\n", COMMAND))
    assert main(["--write", str(copy)]) == 0 and copy.read_text() == page
    copy.write_text("no marks")
    assert main(["--write", str(copy)]) == 2 and "no place" in capsys.readouterr().err
    assert copy.read_text() == "no marks"
