"""`studies/input_detectors/auroc.py` makes the table and the figure of detectors of inputs."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from studies.input_detectors import auroc


def detect(results: Any, attack: str, method: str, shift: float) -> None:
    """Write the scores of a detector under which triggered images lie higher by ``shift``."""
    victim = f"scenes/{attack}/mmcl/seed0"
    if not (results.root / f"pretrain/{victim}").exists():
        results.victim(victim)
    cell = results.cell(f"detect/{victim}/{method}", method, {"false_positive_rate": 0.25})
    parts = [("trusted", "", 0.0), ("val", "", 0.0)]
    parts += [("val", attack, shift)] if attack != "unpoisoned" else []
    rows = [
        {
            "id": str(at),
            "split": split,
            "trigger": trigger,
            "score": at + up,
            "flagged": at + up > 2,
        }
        for split, trigger, up in parts
        for at in range(4)
    ]
    pd.DataFrame(rows).to_parquet(cell / "input_scores.parquet")


@pytest.fixture
def out(results: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    for attack in ("badnet", "blended", "unpoisoned"):
        detect(results, attack, "strip", shift=10)
        detect(results, attack, "subspace", shift=0)
    monkeypatch.chdir(results.root.parent)
    auroc.main(["out"])
    return results.root.parent / "out"


def test_the_table_has_the_numbers_of_each_detector_and_trigger(out: Path) -> None:
    text = (out / "table.md").read_text()
    assert "| `badnet` | 1.00 | 0.50 | 100 / 89 | 25 / 33 |" in text
    assert "| mean | 1.00 | 0.50 | 100 / 89 | 25 / 33 |" in text
    assert "`strip` 25.0 to 25.0" in text
    assert "unpoisoned" not in text


def test_a_mark_stands_at_the_area_of_each_detector(out: Path) -> None:
    figure = auroc.draw(pd.read_csv(out / "inputs.csv", keep_default_na=False).assign(
        auroc=lambda rows: pd.to_numeric(rows["auroc"])))  # fmt: skip
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["badnet", "blended"]
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in marks] == [[1.0, 1.0], [0.5, 0.5]]


def test_the_page_is_made_from_the_committed_table_alone(out: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "inputs.csv").write_bytes((out / "inputs.csv").read_bytes())
    auroc.main([str(other), "--draw"])
    assert (other / "table.md").read_bytes() == (out / "table.md").read_bytes()


def test_a_run_without_scores_is_refused(results: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    results.victim("scenes/badnet/mmcl/seed0")
    monkeypatch.chdir(results.root.parent)
    with pytest.raises(SystemExit, match="has no victim of an attack"):
        auroc.main(["out"])
