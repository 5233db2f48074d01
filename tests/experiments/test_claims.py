"""The table of the papers' claims: what each row compares, when a claim shows, and that the README has it."""

import pandas as pd
import pytest

from experiments.studies import claims
from experiments.studies.claims import Claim, Measure
from interp_lib.bench.content_hash import ROOT


@pytest.mark.parametrize(
    ("gains", "lower", "shows"),
    [
        ([1.0, 2.0, 1.5, 1.0], False, "yes"),
        ([1.0, 2.0, 1.5, 1.0], True, "no"),
        ([3.0, -2.0, 1.0, -1.0], False, "partly"),
        ([-1.0, -2.0, -1.5, -1.0], True, "yes"),
    ],
)
def test_a_claim_shows_where_the_mean_is_clearly_in_its_favour(monkeypatch, gains, lower, shows):
    rows = [{"case": f"world:{k}", "method": "a", "psnr": 10.0 + gain} for k, gain in enumerate(gains)]
    rows += [{"case": f"world:{k}", "method": "b", "psnr": 10.0} for k in reversed(range(len(gains)))]
    rows += [{"case": "world:99", "method": "a", "psnr": 99.0}]  # without a control: not compared
    monkeypatch.setattr(claims, "_table", lambda name: pd.DataFrame(rows))
    row = Claim("a is better", "08", Measure("any", "PSNR", "psnr", lower), {"method": "a"}, {"method": "b"}).row()
    ahead = sum((gain < 0) if lower else (gain > 0) for gain in gains)
    assert row["shows"] == shows and row["better on"] == f"{ahead} of {len(gains)}"
    assert row["here"] == pytest.approx(10 + sum(gains) / len(gains)) and row["control"] == 10


def test_a_claim_about_rows_that_are_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(claims, "_table", lambda name: pd.DataFrame({"case": ["x"], "method": ["a"], "psnr": [1.0]}))
    with pytest.raises(ValueError, match="no rows to compare"):
        Claim("a is better", "08", Measure("any", "PSNR", "psnr"), {"method": "a"}, {"method": "b"}).row()


def test_the_readme_has_the_claims_as_the_tables_have_them(tmp_path):
    readme = ROOT / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(readme.read_text())
    claims.renew(copy)
    assert len(claims.CLAIMS) >= 20 and copy.read_text() == readme.read_text(), "python -m experiments.studies.claims"
