"""Claims: each is stated as data, and its verdict turns with the tables."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from clipmend.report.claims import (
    Tables,
    claims_text,
    how_judged,
    judged_claims,
    printed_claims,
    stated_claims,
)
from clipmend.report.detectors import COLUMNS
from clipmend.report.judges import JUDGES
from clipmend.report.pareto import pareto_table
from clipmend.report.scale import Scale, scales

ROOT = Path(__file__).parents[2]
SCALE = Scale(8000, 1000, {"badnet": 400, "blended": 80}, 32, "scene_resnet", None)
NO_DETECTORS = pd.DataFrame(columns=list(COLUMNS))


def cells(**rates: tuple[float, float]) -> pd.DataFrame:
    """Return two poisoned victims and an unpoisoned one; CA and ASR by method."""
    rows = [
        {
            "corpus": "drawn",
            "attack": attack,
            "trigger": "badnet",
            "objective": objective,
            "seed": 0,
            "stage": "baselines",
            "method": method.replace("__", "@"),
            "control": method == "ubt__oracle",
            "needs": "trusted",
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


def judged(made: pd.DataFrame):
    return judged_claims(Tables(made, NO_DETECTORS, pareto_table([])), {"drawn": SCALE}, 0.95)


def test_the_claims_are_package_data_that_the_documents_link_to() -> None:
    link = ROOT / "docs" / "claims.yaml"
    assert link.is_symlink()
    assert link.readlink() == Path("../src/clipmend/report/claims.yaml")
    stated = yaml.safe_load(link.read_text())
    assert [one.id for one in stated_claims()] == [one["id"] for one in stated]


def test_every_claim_has_a_judge_and_every_judge_a_claim() -> None:
    assert [one.id for one in stated_claims()] == list(JUDGES)


@pytest.mark.parametrize("claim", stated_claims(), ids=lambda claim: claim.id)
def test_a_claim_says_where_it_stands_and_how_it_is_judged(claim) -> None:
    assert claim.source.startswith("arXiv:")
    assert claim.over in ("corpus", "sizes")
    assert claim.judged.keys() == {"columns", "comparison", "thresholds"}
    files = {column.split()[0] for column in claim.judged["columns"]}
    assert files <= {"cells.csv", "detectors.csv", "pareto.csv"}
    assert all("setting" in numbers for numbers in claim.paper)


def test_a_reader_is_told_columns_comparison_thresholds_and_scope() -> None:
    told = how_judged()
    assert list(told) == [one.claim for one in stated_claims()]
    first = next(iter(told.values()))
    assert first.startswith("cells.csv attack_success_rate, cells.csv clean_accuracy: poisoned")
    assert "above 0 (margin = 0.19). UBT is reimplemented" in first


def test_a_claim_is_judged_once_per_corpus_or_per_corpora_of_one_name() -> None:
    made = cells(none=(0.9, 1.0), ft=(0.85, 0.3))
    both = pd.concat([made.assign(corpus=name) for name in ("photos", "scenes", "scenes@large")])
    found = judged(both)
    assert [one.corpus for one in found if one.id == "ubt_lowest_asr"] == [
        "photos",
        "scenes",
        "scenes@large",
    ]
    assert [one.corpus for one in found if one.id == "accuracy_hardens_removal"] == [
        "photos",
        "scenes, scenes@large",
    ]


def test_what_the_grid_does_not_hold_is_not_tested() -> None:
    found = judged(cells(none=(0.9, 1.0)))
    assert {one.id for one in found} == set(JUDGES)
    assert {one.verdict for one in found} == {"not tested here"}
    assert judged(cells(none=(0.9, 1.0)).iloc[:0]) == []


def test_verdicts_are_written_and_printed_with_their_scale() -> None:
    found = judged(cells(none=(0.9, 1.0), ft=(0.85, 0.3), ubt=(0.89, 0.01)))
    (written,) = (one for one in json.loads(claims_text(found)) if one["id"] == "ubt_lowest_asr")
    assert written["numbers"][0]["name"] == "ASR of ft less that of ubt"
    assert written["scale"]["drawn"]["train_pairs"] == 8000
    printed = printed_claims(found)
    assert printed is not None
    assert printed.header == ("claim", "source", "corpus", "verdict", "because", "scale")
    assert printed.rows[0][3].text == "supported"
    assert printed.rows[0][5].text == (
        "8,000 training pairs (80 to 400 poisoned), 1,000 trusted, 32 pixels, scene_resnet "
        "trained from nothing"
    )
    assert printed_claims([]) is None


def test_the_scale_is_what_the_cells_state(tree) -> None:
    tree.corpus("scenes")
    tree.poison("scenes", "badnet", 0)
    tree.poison("scenes", "unpoisoned", 0)
    shared = {"model": "ViT-B-32", "pretrained": "openai"}
    tree.cell("pretrain/scenes/badnet/mmcl/seed0", "mmcl", shared=shared)
    assert scales(tree.inputs) == {
        "scenes": Scale(200, None, {"unpoisoned": 0, "badnet": 17}, None, "ViT-B-32", "openai")
    }


def test_a_corpus_without_its_files_has_the_scale_it_was_asked_for(tree) -> None:
    tree.cell("download/big", "cc3m", {"train": 500_000, "image_size": 224})
    assert scales(tree.inputs)["big"].text() == "500,000 training pairs, 224 pixels"
