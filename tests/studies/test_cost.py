"""`studies/cost/make.py` adds up the jobs that only a repair needs."""

import json
from pathlib import Path

import pandas as pd
import pytest

from clipmend.engine.runner import RESTORED
from studies.cost import make
from studies.cost.make import costs, import_seconds, page

VICTIM = "scenes/badnet/mmcl/seed0"
INPUTS = {
    "download/scenes": [],
    f"pretrain/{VICTIM}": ["download/scenes"],
    f"detect/{VICTIM}/ubt": ["download/scenes", f"pretrain/{VICTIM}"],
    f"unlearn/{VICTIM}/ubt": [f"detect/{VICTIM}/ubt", f"pretrain/{VICTIM}"],
    f"baselines/{VICTIM}/cleanclip": [f"pretrain/{VICTIM}"],
}
SECONDS = {
    f"pretrain/{VICTIM}": 500.0,
    f"detect/{VICTIM}/ubt": 26.0,
    f"unlearn/{VICTIM}/ubt": 16.0,
    f"baselines/{VICTIM}/cleanclip": 90.0,
}
START = {"detect": 6.0, "unlearn": 5.0, "baselines": 10.0}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    report = tmp_path / "results" / "report"
    report.mkdir(parents=True)
    lines = [
        json.dumps({"cell": cell, "inputs": {name: {"cell": name} for name in inputs}})
        for cell, inputs in INPUTS.items()
    ]
    (report / "cards.jsonl").write_text("\n".join(lines) + "\n")
    for cell, seconds in SECONDS.items():
        path = tmp_path / "logs" / "benchmark" / f"{cell}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:00:00\t1.0\n")
    return tmp_path


def costs_of(project: Path) -> pd.DataFrame:
    return costs(project, START.__getitem__)


def test_detection_counts_and_the_victim_does_not(project: Path) -> None:
    cleanclip, ubt = costs_of(project).itertuples()
    assert (cleanclip.victim, cleanclip.repair, cleanclip.seconds) == (VICTIM, "cleanclip", 80.0)
    assert (ubt.victim, ubt.repair, ubt.seconds) == (VICTIM, "ubt", 31.0)
    assert ubt.jobs == "detect/ubt 20.0 + unlearn/ubt 11.0"


def test_the_tables_compare_with_cleanclip(project: Path) -> None:
    text = page(costs_of(project), START.__getitem__)
    assert f"| {VICTIM} | `ubt` | detect/ubt 20.0 + unlearn/ubt 11.0 | 31.0 | 0.39 |" in text
    assert "| `cleanclip` | 1 | 80.0 | 1.00 |" in text
    assert "| `ubt` | 1 | 31.0 | 0.39 |" in text


@pytest.mark.parametrize("reason", ["missing", "restored", "faster than its imports"])
def test_a_job_that_the_run_did_not_make_has_no_cost(project: Path, reason: str) -> None:
    cell = f"detect/{VICTIM}/ubt"
    path, log = project / f"logs/benchmark/{cell}.tsv", project / f"logs/{cell}.log"
    if reason == "missing":
        path.unlink()
    elif reason == "restored":
        log.parent.mkdir(parents=True)
        log.write_text(f"{cell}: {RESTORED}\n")
    else:
        path.write_text("s\n5.9\n")
    text = page(costs_of(project), START.__getitem__)
    assert f"| {VICTIM} | `ubt` | detect/ubt ? + unlearn/ubt 11.0 | ? | ? |" in text
    assert "| `ubt` | 0 | ? | ? |" in text


def test_without_cards_the_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make all"):
        costs_of(tmp_path)


def test_the_seconds_of_imports_are_measured(monkeypatch) -> None:
    monkeypatch.setattr(make, "STARTS", 1)  # a start takes seconds
    assert import_seconds("download") > 0
