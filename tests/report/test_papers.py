"""The papers' numbers stand beside a run of their settings, each with where it comes from."""

import re
from dataclasses import replace
from typing import Any

import pytest

from clipmend.report.cells import cells_table
from clipmend.report.papers import OURS, _theirs, beside_papers, printed_papers
from clipmend.report.table import means_table
from clipmend.stages.report import run

SOURCES = re.compile(r"(arXiv:\d{4}\.\d{5} \w+|[\w-]+/[\w-]+ ([\w/.]+|issue \d+))")
PERCENT = re.compile(r"|<?\d{1,2}(\.\d{1,2})?")


@pytest.fixture
def scratch(tree: Any) -> Any:
    """Return a finished grid whose corpus says that it comes from CC3M."""
    tree.grid(corpora=("cc3m",), attacks=("unpoisoned", "badnet"))
    tree.inputs["download/cc3m"] = replace(tree.inputs["download/cc3m"], method="cc3m")
    for name, given in tree.inputs.items():
        if given.stage == "pretrain":
            shared = {"model": "RN50", "pretrained": None}
            tree.inputs[name] = replace(given, shared=shared)
    return tree


def beside(tree: Any) -> Any:
    return beside_papers(means_table(cells_table(tree.inputs), 0.95), tree.inputs)


def test_every_published_row_says_where_it_stands_and_of_what_it_is() -> None:
    rows = _theirs().to_dict("records")
    assert {row["setting"] for row in rows} == {"A", "B"}
    for row in rows:
        assert SOURCES.fullmatch(row["source"]), row["source"]
        assert row["of"]
        assert row["measured_on"]
        assert PERCENT.fullmatch(row["clean_accuracy"]), row
        assert PERCENT.fullmatch(row["attack_success_rate"]), row
        assert row["clean_accuracy"] or row["attack_success_rate"] or "points" in row["of"]


def test_only_the_setting_of_this_run_is_shown(scratch: Any) -> None:
    table = beside(scratch)
    assert set(table["setting"]) == {"B"}
    for name, given in scratch.inputs.items():
        if given.stage == "pretrain":
            shared = {"model": "RN50-quickgelu", "pretrained": "openai"}
            scratch.inputs[name] = replace(given, shared=shared)
    assert set(beside(scratch)["setting"]) == {"A"}


def test_each_of_our_rows_names_what_differs(scratch: Any) -> None:
    table = beside(scratch)
    ours = table[table["source"] == OURS]
    ubt = ours[(ours["attack"] == "badnet") & (ours["method"] == "ubt")].iloc[0]
    assert ubt["differs"] == (
        "200 pairs, not 3,000,000; 10,000 test images, not 50,000; 17 poisons, not 1,500; "
        "UBT is after its abstract"
    )
    clean = ours[(ours["attack"] == "unpoisoned") & (ours["method"] == "none")].iloc[0]
    assert "poisons" not in clean["differs"]
    assert "RN50" not in clean["differs"]
    theirs = table[table["source"] != OURS]
    assert set(theirs["differs"]) == {""}
    assert not set(theirs["source"]) & set(ours["source"])


def test_the_papers_numbers_are_those_of_their_files(scratch: Any) -> None:
    table = beside(scratch)
    known = table[(table["method"] == "none") & (table["objective"] == "mmcl_ssl")]
    theirs = known[known["source"] != OURS].iloc[0]
    assert (theirs["clean_accuracy"], theirs["attack_success_rate"]) == ("17.04", "99.03")
    for printed in printed_papers(table):
        assert all(len(row) == len(printed.header) for row in printed.rows)


def test_the_report_of_such_a_run_shows_them(scratch: Any) -> None:
    job = scratch.job()
    run(job)
    assert (job.out / "papers.csv").is_file()
    page = (job.out / "index.html").read_text()
    assert "Setting B: reported elsewhere, and measured here" in page
    assert 'href="papers.csv"' in page
    assert "vsahil/attack-cleanclip" in (job.out / "table.md").read_text()


def test_no_other_report_does(tree: Any) -> None:
    tree.grid(attacks=("unpoisoned", "badnet"))
    assert beside(tree).empty
