"""The papers' numbers beside a run of their settings, each with its source."""

import re
from typing import Any

import pandas as pd
import pytest

from clipmend.engine.runner import inputs_below
from studies.papers import papers

SOURCES = re.compile(r"(arXiv:\d{4}\.\d{5} \w+|[\w-]+/[\w-]+ ([\w/.]+|issue \d+))")
PERCENT = re.compile(r"|<?\d{1,2}(\.\d{1,2})?")
OPENAI = {"model": "RN50-quickgelu", "pretrained": "openai"}


def finished(results: Any, source: str = "cc3m", **shared: Any) -> Any:
    """Write a finished run of two attacks and two objectives, and its report's means."""
    rows = []
    for attack in ("unpoisoned", "badnet"):
        for objective in ("mmcl", "mmcl_ssl"):
            results.victim(f"cc3m/{attack}/{objective}/seed0", source=source, **shared)
            rows += [
                {
                    **{"corpus": "cc3m", "attack": attack, "objective": objective},
                    **{"trigger": "badnet", "method": method, "n_seeds": 1, "n_clean": 10_000},
                    **{"clean_accuracy": 0.82, "attack_success_rate": 0.1},
                }
                for method in ("none", "ubt")
            ]
    (results.root / "report").mkdir()
    pd.DataFrame(rows).to_csv(results.root / "report/table.csv", index=False)
    return results


def beside(results: Any) -> pd.DataFrame:
    means = pd.read_csv(results.root / "report/table.csv")
    return papers.beside_papers(means, inputs_below(results.root))


def test_every_reported_row_names_its_source_and_its_model() -> None:
    rows = papers.reported().to_dict("records")
    assert {row["setting"] for row in rows} == {"A", "B"}
    for row in rows:
        assert SOURCES.fullmatch(row["source"]), row["source"]
        assert row["of"]
        assert row["measured_on"]
        assert PERCENT.fullmatch(row["clean_accuracy"]), row
        assert PERCENT.fullmatch(row["attack_success_rate"]), row
        assert row["clean_accuracy"] or row["attack_success_rate"] or "points" in row["of"]


@pytest.mark.parametrize(("shared", "setting"), [({}, "B"), ({"shared": OPENAI}, "A")])
def test_only_the_setting_of_this_run_is_shown(results: Any, shared: Any, setting: str) -> None:
    assert set(beside(finished(results, **shared))["setting"]) == {setting}


def test_each_of_our_rows_names_the_differences(results: Any) -> None:
    table = beside(finished(results))
    ours, theirs = table[table["source"] == papers.OURS], table[table["source"] != papers.OURS]
    ubt = ours[(ours["attack"] == "badnet") & (ours["method"] == "ubt")].iloc[0]
    assert ubt["differs"] == (
        "200 pairs, not 3,000,000; 10,000 test images, not 50,000; 17 poisons, not 1,500; "
        "UBT is after its abstract"
    )
    clean = ours[(ours["attack"] == "unpoisoned") & (ours["method"] == "none")].iloc[0]
    assert "poisons" not in clean["differs"]
    assert "RN50" not in clean["differs"]
    assert set(theirs["differs"]) == {""}


def test_the_papers_numbers_are_those_of_their_files(results: Any) -> None:
    table = beside(finished(results))
    known = table[(table["method"] == "none") & (table["objective"] == "mmcl_ssl")]
    theirs = known[known["source"] != papers.OURS].iloc[0]
    assert (theirs["clean_accuracy"], theirs["attack_success_rate"]) == ("17.04", "99.03")


def test_the_command_writes_a_table_per_setting(results: Any) -> None:
    out = results.root / "out"
    papers.make(finished(results).root, out)
    rows = pd.read_csv(out / "papers.csv")
    assert papers.OURS in set(rows["source"])
    text = (out / "papers.md").read_text()
    assert "Setting B: reported elsewhere, and measured here" in text
    assert "vsahil/attack-cleanclip" in text
    assert "3,000,000" in text


def test_a_corpus_from_elsewhere_has_no_such_table(results: Any) -> None:
    with pytest.raises(SystemExit, match="no victim on a corpus from CC3M"):
        papers.make(finished(results, source="scenes").root, results.root / "out")
