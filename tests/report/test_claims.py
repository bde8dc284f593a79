"""Claims: the verdict is computed from the cells, and turns with them."""

import json

import pandas as pd
import pytest

from clipmend.report.claims import claims_text, judged_claims, printed_claims


def cells(**rates: tuple[float, float]) -> pd.DataFrame:
    """Return two poisoned victims and an unpoisoned one; CA and ASR by method."""
    rows = [
        {
            "corpus": "drawn",
            "attack": attack,
            "trigger": "badnet",
            "objective": objective,
            "seed": 0,
            "method": method.replace("__", "@"),
            "control": method == "ubt__oracle",
            "clean_accuracy": clean + shift,
            "attack_success_rate": 0.0 if attack == "unpoisoned" else success + shift,
        }
        for attack, objective, shift in (
            ("badnet", "mmcl", 0.0),
            ("badnet", "mmcl_ssl", 0.01),
            ("unpoisoned", "mmcl", 0.0),
        )
        for method, (clean, success) in rates.items()
    ]
    return pd.DataFrame(rows)


def test_the_claim_is_supported_where_the_margin_is_there() -> None:
    (found,) = judged_claims(cells(none=(0.9, 1.0), ft=(0.85, 0.3), ubt=(0.89, 0.01)), 0.95)
    assert found.verdict == "supported"
    (margin,) = found.margins
    assert margin.attack_success_rate == pytest.approx(0.29)
    assert margin.clean_accuracy == pytest.approx(0.04)
    assert margin.n == 2


@pytest.mark.parametrize(
    "rates",
    [
        {"ft": (0.85, 0.1), "ubt": (0.89, 0.01)},  # no room for 19 points
        {"ft": (0.90, 0.4), "ubt": (0.89, 0.01)},  # at a lower CA
        {"ft": (0.85, 0.4), "cleanclip": (0.8, 0.02), "ubt": (0.89, 0.01)},  # another is better
    ],
)
def test_the_claim_is_not_supported_without_it(rates: dict[str, tuple[float, float]]) -> None:
    (found,) = judged_claims(cells(none=(0.9, 1.0), **rates), 0.95)
    assert found.verdict == "not supported"
    assert "points below it" in found.because


def test_controls_and_variants_are_no_other_repairs() -> None:
    made = cells(none=(0.9, 1.0), ubt=(0.89, 0.01), ubt__oracle=(0.9, 0.0), ubt__early=(0.8, 0.9))
    (found,) = judged_claims(made, 0.95)
    assert found.verdict == "not tested here"
    assert found.margins == ()


def test_verdicts_are_written_and_printed() -> None:
    found = judged_claims(cells(none=(0.9, 1.0), ft=(0.85, 0.3), ubt=(0.89, 0.01)), 0.95)
    assert json.loads(claims_text(found))[0]["margins"][0]["other"] == "ft"
    printed = printed_claims(found)
    assert printed is not None
    assert printed.rows[0][3].text == "supported"
    assert printed_claims([]) is None
