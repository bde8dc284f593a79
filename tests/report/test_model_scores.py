"""model_scores.csv and its printed table, from model scores written by hand."""

import re

import pandas as pd

from clipmend.report.results import Results
from clipmend.report.tables import model_scores
from clipmend.stages.report import run

BEGIN = "corpus,attack,objective,seed,stage,method,is_backdoored,found,statistic,threshold"
SMALL = {"attacks": ["unpoisoned", "badnet"], "objectives": ["mmcl"], "repairs": ["none", "ubt"]}


def judged(tree):
    tree.grid(**SMALL)
    tree.verdict("scenes/badnet/mmcl/seed0", "decree", 0.03)
    tree.verdict("scenes/unpoisoned/mmcl/seed0", "decree", 0.4)
    return Results(tree.inputs)


def test_a_model_score_stands_beside_the_truth_and_is_printed_in_words(tree) -> None:
    results = judged(tree)
    (printed,) = model_scores.section(results).tables
    said = dict(zip(printed.text["attack"], printed.text["model score"], strict=True))
    assert said == {"unpoisoned": "not backdoored", "badnet": "backdoored"}
    lines = results.model_scores.to_csv(index=False).splitlines()
    assert lines == [
        f"{BEGIN},cosine,pl1_norm,n_images,n_poisoned",
        "scenes,unpoisoned,mmcl,0,detect,decree,False,True,pl1_norm,0.1,0.99,0.4,256,0",
        "scenes,badnet,mmcl,0,detect,decree,True,True,pl1_norm,0.1,0.99,0.03,256,17",
    ]


def test_what_one_detector_does_not_measure_is_empty_for_it(tree) -> None:
    judged(tree)
    other = {"statistic": "spread", "numbers": {"spread": 2.0}, "definitions": {"spread": "x"}}
    tree.verdict("scenes/badnet/mmcl/seed0", "other", 0.2, **other)
    results = Results(tree.inputs)
    table = results.model_scores
    assert list(table["method"]) == ["decree", "decree", "other"]
    assert list(table["spread"].isna()) == [True, True, False]
    assert list(table["pl1_norm"].isna()) == [False, False, True]
    (printed,) = model_scores.section(results).tables
    assert printed.text.iloc[2, 6] == "spread 2.000 (threshold 0.1)"


def test_columns_stay_where_nothing_was_judged(tree) -> None:
    tree.grid(**SMALL)
    results = Results(tree.inputs)
    table = results.model_scores
    assert table.to_csv(index=False) == f"{BEGIN},n_images,n_poisoned\n"
    section = model_scores.section(results)
    assert not section.tables
    assert not section.definitions


def test_the_page_shows_model_scores_only_where_there_are_any(tree) -> None:
    judged(tree)
    job = tree.job()
    run(job)
    page = (job.out / "index.html").read_text()
    assert re.search(r"<h2 id=.model_scores.>", page)
    assert "Share of the largest norm." in page
    assert len(pd.read_csv(job.out / "model_scores.csv")) == 2
    tree.inputs = {name: one for name, one in tree.inputs.items() if "/decree" not in name}
    without = tree.job("without")
    run(without)
    assert 'id="model_scores"' not in (without.out / "index.html").read_text()
