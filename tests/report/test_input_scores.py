"""inputs.csv and its printed table, from scores of images written by hand."""

import re

import pandas as pd

from clipmend.report import files
from clipmend.report.results import Results
from clipmend.report.tables import input_scores
from clipmend.stages.report import run

COLUMNS = (
    "corpus,attack,objective,seed,trigger,stage,method,"
    "auroc,tpr,fpr,f1,stated_fpr,n_trusted,n_clean,n_triggered"
)
SMALL = {"attacks": ["unpoisoned", "badnet"], "objectives": ["mmcl"], "repairs": ["none", "ubt"]}


def scored(tree):
    """Write four clean images, of which one is flagged, and two triggered ones."""
    tree.grid(**SMALL)
    clean = [("val", "", 0.1), ("val", "", 0.2), ("val", "", 0.3), ("val", "", 0.9)]
    trusted = [("trusted", "", 0.5), ("trusted", "", 0.4)]
    triggered = [("val", "badnet", 0.8), ("val", "badnet", 0.25)]
    for attack, rows in (("unpoisoned", clean), ("badnet", [*clean, *triggered])):
        cell = f"detect/scenes/{attack}/mmcl/seed0/strip"
        folder = tree.cell(cell, "strip", {"false_positive_rate": 0.05})
        frame = pd.DataFrame([*trusted, *rows], columns=["split", "trigger", "score"])
        frame["flagged"] = frame["score"] > 0.5
        frame.to_parquet(folder / "input_scores.parquet")
    return Results(tree.inputs)


def test_a_row_holds_the_rates_at_the_threshold_and_the_area_without_it(tree) -> None:
    lines = scored(tree).inputs_scored.to_csv(index=False).splitlines()
    # Of eight couples, the triggered image at 0.8 wins three and that at 0.25 two.
    assert lines == [
        COLUMNS,
        "scenes,unpoisoned,mmcl,0,,detect,strip,,,0.25,,0.05,2,4,0",
        "scenes,badnet,mmcl,0,badnet,detect,strip,0.625,0.5,0.25,0.5,0.05,2,4,2",
    ]


def test_the_page_has_the_table_only_where_a_detector_scored_inputs(tree) -> None:
    scored(tree)
    job = tree.job()
    run(job)
    page = (job.out / "index.html").read_text()
    assert re.search(r"<h2 id=.input_scores.>Detectors of inputs", page)
    assert "stated FPR" in page
    assert len(pd.read_csv(job.out / "inputs.csv")) == 2
    assert "strip" not in set(pd.read_csv(job.out / "detectors.csv")["method"])
    tree.inputs = {name: one for name, one in tree.inputs.items() if "/strip" not in name}
    without = tree.job("without")
    run(without)
    assert 'id="input_scores"' not in (without.out / "index.html").read_text()
    assert (without.out / "inputs.csv").read_text() == f"{COLUMNS}\n"


def test_a_report_that_is_joined_keeps_the_row_without_a_trigger(tree) -> None:
    scored(tree)
    job = tree.job()
    run(job)
    joined = Results({}, joined=files.joined_tables([job.out, job.out]))
    assert list(joined.inputs_scored["trigger"]) == ["", "badnet"]
    (printed,) = input_scores.section(joined).tables
    assert list(printed.text["TPR"]) == ["", "50.0"]
