"""Claims: each is one file, and its outcome follows the tables."""

import json

import pandas as pd
import pytest

from clipmend.report.claims.check import Tables
from clipmend.report.claims.outcomes import check_claims, claims_text, rules
from clipmend.report.contents import claims
from clipmend.report.results import Results
from clipmend.report.scale import Scale
from clipmend.report.tables.claims import section
from tests.report.rows import cell

CLAIMS = tuple(claims())
SCALE = Scale(8000, 1000, {"badnet": 400, "blended": 80}, 32, "scene_resnet", None)


def cells(**rates: tuple[float, float]) -> pd.DataFrame:
    """Return two poisoned victims and an unpoisoned one; CA and ASR by method."""
    rows = []
    for objective, shift in (("mmcl", 0.0), ("mmcl_ssl", 0.01)):
        for method, (ca, asr) in rates.items():
            rows.append(cell(method, ca + shift, asr + shift, objective=objective, needs="trusted"))
    clean = {"attack": "unpoisoned", "trigger": "badnet", "needs": "trusted"}
    return pd.DataFrame(rows + [cell(name, ca, 0.0, **clean) for name, (ca, _) in rates.items()])


def checked(made: pd.DataFrame):
    detectors = pd.DataFrame(columns=["corpus", "attack", "objective", "seed", "method", "auroc"])
    return check_claims(Tables(made, detectors, [], {"scenes": SCALE}, 0.95))


def test_each_claim_has_the_name_of_its_file() -> None:
    assert [module.CLAIM.id for module in claims().values()] == list(CLAIMS)


@pytest.mark.parametrize("claim", [module.CLAIM for module in claims().values()], ids=CLAIMS)
def test_a_claim_names_its_papers_and_the_files_that_it_reads(claim) -> None:
    assert claim.source.startswith("arXiv:")
    assert claim.paper.endswith(".")
    files = {column.split()[0] for column in claim.columns.split(", ")}
    assert files <= {"cells.csv", "detectors.csv", "curve.csv"}


def test_the_page_shows_columns_comparison_thresholds_and_scope() -> None:
    texts = rules()
    assert list(texts) == [module.CLAIM.claim for module in claims().values()]
    first = next(iter(texts.values()))
    assert first.startswith(
        "cells.csv attack_success_rate, cells.csv clean_accuracy: On the poisoned"
    )
    assert "above 0 (margin = 0.19). UBT is reimplemented" in first


def test_a_claim_is_checked_once_per_corpus_or_per_corpora_of_one_name() -> None:
    made = cells(none=(0.9, 1.0), ft=(0.85, 0.3))
    both = pd.concat([made.assign(corpus=name) for name in ("photos", "scenes", "scenes@large")])
    corpora = {name: [e["corpus"] for e in checked(both) if e["id"] == name] for name in CLAIMS}
    assert corpora["ubt_lowest_asr"] == ["photos", "scenes", "scenes@large"]
    assert corpora["accuracy_hardens_removal"] == ["photos", "scenes, scenes@large"]


def test_claims_about_cells_that_the_grid_lacks_are_not_tested() -> None:
    entries = checked(cells(none=(0.9, 1.0)))
    assert [entry["id"] for entry in entries] == list(CLAIMS)
    assert {entry["outcome"] for entry in entries} == {"not tested here"}
    assert checked(cells(none=(0.9, 1.0)).iloc[:0]) == []


def test_outcomes_are_written_with_their_scale() -> None:
    entries = checked(cells(none=(0.9, 1.0), ft=(0.85, 0.3), ubt=(0.89, 0.01)))
    written = json.loads(claims_text(entries))[0]
    assert written["numbers"][0]["name"] == "ASR of ft less that of ubt"
    assert written["scale"]["scenes"]["train_pairs"] == 8000


def test_the_table_of_outcomes_has_their_scale_in_words() -> None:
    results = Results({})
    vars(results)["outcomes"] = checked(cells(none=(0.9, 1.0), ft=(0.85, 0.3), ubt=(0.89, 0.01)))
    (table,) = section(results).tables
    assert table.header == ("claim", "source", "corpus", "outcome", "because", "scale")
    assert table.text["outcome"][0] == "supported"
    assert table.text["scale"][0] == (
        "8,000 training pairs (80 to 400 poisoned), 1,000 trusted, 32 pixels, scene_resnet "
        "trained from nothing"
    )
    vars(results)["outcomes"] = []
    assert not section(results).tables
