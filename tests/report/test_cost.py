"""scripts/cost.py adds up the jobs that only a repair needs."""

import json

import pytest

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


@pytest.fixture(scope="module")
def cost(script):
    return script("cost")


@pytest.fixture
def project(tmp_path):
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


def found(cost, project):
    return cost.costs(project, cost.read_cards(project), START.__getitem__)


def test_detection_counts_and_the_victim_does_not(cost, project) -> None:
    cleanclip, ubt = found(cost, project)
    assert cleanclip.jobs == {f"baselines/{VICTIM}/cleanclip": 80.0}
    assert ubt.jobs == {f"detect/{VICTIM}/ubt": 20.0, f"unlearn/{VICTIM}/ubt": 11.0}
    assert (ubt.victim, ubt.repair, ubt.seconds) == (VICTIM, "ubt", 31.0)


def test_the_tables_compare_with_cleanclip(cost, project) -> None:
    text = cost.tables(found(cost, project))
    assert f"| {VICTIM} | `ubt` | detect/ubt 20.0 + unlearn/ubt 11.0 | 31.0 | 0.39 |" in text
    assert "| `cleanclip` | 1 | 80.0 | 1.00 |" in text
    assert "| `ubt` | 1 | 31.0 | 0.39 |" in text


@pytest.mark.parametrize("how", ["missing", "restored", "faster than a start"])
def test_a_time_that_is_none_of_making_is_not_made_up(cost, project, how) -> None:
    cell = f"detect/{VICTIM}/ubt"
    path, log = project / f"logs/benchmark/{cell}.tsv", project / f"logs/{cell}.log"
    if how == "missing":
        path.unlink()
    elif how == "restored":
        log.parent.mkdir(parents=True)
        log.write_text(f"{cell}: taken from the store\n")
    else:
        path.write_text("s\n5.9\n")
    _, ubt = found(cost, project)
    assert ubt.jobs[cell] is None
    assert ubt.seconds is None
    text = cost.tables(found(cost, project))
    assert f"| {VICTIM} | `ubt` | detect/ubt ? + unlearn/ubt 11.0 | ? |  |" in text
    assert "| `ubt` | 0 | ? |  |" in text


def test_without_cards_it_says_what_to_run(cost, tmp_path) -> None:
    with pytest.raises(SystemExit, match="make all"):
        cost.read_cards(tmp_path)
