"""The correlation of score and quality: rank correlation is Spearman's, the tables show what was measured."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from experiments.studies.suitability import GROUPS, QUALITIES, QUANTITIES, load_judged, rank_correlation, report
from interp_lib.bench.tables import load_table


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


def row(k, score):
    rest = dict.fromkeys(QUANTITIES, 0.5) | {name: k / 10 + j for j, name in enumerate(QUANTITIES)}
    return rest | {"case": f"world:{k}", "score": score} | {name: 10.0 + k for name in QUALITIES}


def test_the_report_lists_the_worst():
    rows = pd.DataFrame([row(k, 0.6 + (k - 3) / 100) for k in range(10)])
    lines = report(rows, rows[:4]).splitlines()
    table = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "|" in line
    }
    assert table["score, world-bench (10 pairs)"][0].startswith("+1.00 [+1.00") and "world:9" not in table
    assert list(table).index("world:0") < list(table).index("world:7") and table["world:2"][0] == "12.0"


def test_the_study_has_the_cases_of_the_tables_and_judges_none_that_it_was_chosen_on():
    cases = set(load_table("interpolation")["case"])
    assert cases == set(GROUPS["judged"]) and not cases & set(GROUPS["limits"])
    judged = load_judged("judged")
    assert set(judged["case"]) == cases and np.allclose(judged["gain"], judged["psnr_moving"] - judged["plain"])
