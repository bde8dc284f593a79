"""`studies/rebound/rebound.py` fine-tunes repaired models and follows the ASR."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from clipmend.data.splits import load_sample, load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.methods.attacks.trigger import read_triggers
from studies.rebound import rebound

COLUMNS = list(rebound.COLUMNS)
BADNET = "unlearn/scenes/badnet/mmcl/seed0/ubt"
CONTROL = "pretrain/scenes/unpoisoned/mmcl/seed0"


def rows(cell: str, *asr: float, n: int = 1000) -> list[tuple[object, ...]]:
    """Return the rows of a model with these ASRs, ten steps apart."""
    return [(cell, "badnet", 10 * at, rate, n, 0.9 - at / 100, n) for at, rate in enumerate(asr)]


def table_of(*parts: list[tuple[object, ...]]) -> pd.DataFrame:
    table = rebound.summarize(pd.DataFrame([*chain(*parts)], columns=COLUMNS))
    return table.set_index(["attack", "method"])


def test_pairs_that_name_the_target_are_left_out(corpus: Input) -> None:
    trusted = load_split(corpus.folder, "trusted")
    kept = rebound.pairs_without(trusted, {"banana", "red car"})
    assert 0 < len(kept) < len(trusted)
    assert not any("banana" in caption for caption in kept.captions)
    # A target of two words is named by a caption that has both.
    without = [c for c in trusted.captions if "banana" not in c]
    assert list(kept.captions) == [c for c in without if not ("red" in c and "car" in c.split())]


def test_a_model_is_measured_every_ten_steps(corpus: Input, poison: Input, victim: Input) -> None:
    subject = rebound.Subject(victim, corpus.folder, read_triggers(poison))
    curve = rebound.curve(subject, images=48, steps=30)
    assert list(curve.columns) == COLUMNS
    assert list(curve["step"]) == [0, 10, 20, 30]
    assert set(curve["n_clean"]) == {48}
    banana = read_vocabulary(corpus.folder).label_of("banana")
    others = load_sample(corpus.folder, "test", 48).label != banana
    assert set(curve["n_triggered"]) == {int(others.sum())}
    assert curve[["attack_success_rate", "clean_accuracy"]].stack().between(0, 1).all()


def test_the_clean_model_is_measured_under_the_triggers_of_all_attacks(
    corpus: Input, poison: Input, victim: Input
) -> None:
    repaired = replace(victim, cell="baselines/tiny/badnet/mmcl/seed0/ft", stage="baselines")
    clean = replace(victim, cell="pretrain/tiny/unpoisoned/mmcl/seed0")
    nothing = replace(poison, cell="poison/tiny/unpoisoned/seed0", method="unpoisoned")
    cells = {cell.cell: cell for cell in (corpus, poison, nothing, clean, victim, repaired)}
    found = list(rebound.subjects(cells))
    assert [one.cell for one in found] == [victim, clean, repaired]
    assert [[trigger.name for trigger in one.triggers] for one in found] == [["badnet"]] * 3


def test_maximum_area_and_accuracy_are_those_of_the_curve() -> None:
    row = table_of(rows(BADNET, 0.0, 0.4, 0.2)).loc[("badnet", "ubt")]
    assert (row["asr_before"], row["asr_highest"], row["asr_after"]) == (0.0, 0.4, 0.2)
    assert row["step_highest"] == 10
    assert row["area"] == pytest.approx((0.2 + 0.3) / 2)
    assert (row["ca_before"], row["ca_after"]) == (0.9, 0.88)
    assert not pd.isna(row["comes_back"])


@pytest.mark.parametrize(
    ("repaired", "control", "comes_back"),
    [
        ((0.01, 0.20, 0.10), (0.0, 0.0), True),
        ((0.01, 0.02, 0.01), (0.0, 0.0), False),  # within the interval of its start
        ((0.01, 0.20, 0.10), (0.0, 0.2), False),  # the clean model does the same
        ((0.90, 0.91, 0.90), (0.0, 0.0), False),  # it never left
    ],
)
def test_a_backdoor_comes_back_if_it_rises_above_its_start_and_the_control(
    repaired: tuple[float, ...], control: tuple[float, ...], comes_back: bool
) -> None:
    table = table_of(rows(BADNET, *repaired), rows(CONTROL, *control))
    assert table.loc[("badnet", "ubt"), "comes_back"] == comes_back
    assert not table.loc[("unpoisoned", "none"), "comes_back"]


def test_the_files_are_drawn_from_the_curves_alone(tmp_path: Path) -> None:
    other = BADNET.replace("ubt", "tbar").replace("badnet", "blended")
    curves = rows(BADNET, 0.0, 0.5) + rows(CONTROL, 0.0, 0.0)
    curves += [(*row[:1], "blended", *row[2:]) for row in rows(other, 0.1, 0.1)]
    pd.DataFrame(curves, columns=COLUMNS).to_csv(tmp_path / "curves.csv", index=False)
    rebound.main(tmp_path, images=1, only_draw=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("curves.csv", "table.csv", "table.md", "rebound.png", "rebound.svg")
    }
    text = (tmp_path / "table.md").read_text()
    assert "| `badnet` | `mmcl` | 0 | `ubt` | 90.0 | 89.0 | 0.0 | 50.0 | 10 |" in text
    assert text.count("**yes**") == 1
    figure = rebound.draw(pd.read_csv(tmp_path / "curves.csv"))
    assert [axes.get_title() for axes in figure.axes] == ["badnet, mmcl", "blended, mmcl"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]


def test_a_second_start_keeps_finished_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: Input
) -> None:
    made: list[str] = []

    def curve(subject: rebound.Subject, images: int) -> pd.DataFrame:
        made.append(subject.cell.cell)
        return pd.DataFrame(rows(subject.cell.cell, 0.0, 0.1, n=images), columns=COLUMNS)

    monkeypatch.setattr(rebound, "curve", curve)
    monkeypatch.setattr(rebound, "inputs_below", lambda _: {})
    one, other = (rebound.Subject(replace(victim, cell=cell), tmp_path, ()) for cell in "ab")
    for found in ([one], [one, other]):
        monkeypatch.setattr(rebound, "subjects", lambda _, found=found: iter(found))
        rebound.write_curves(tmp_path, tmp_path / "curves.csv", images=7)
    assert made == ["a", "b"]
    assert list(pd.read_csv(tmp_path / "curves.csv")["cell"]) == ["a", "a", "b", "b"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="has no victim of an attack"):
        rebound.main(tmp_path / "out", images=1)
