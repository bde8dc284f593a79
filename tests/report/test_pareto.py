"""What cleaning can reach: every epoch of every rate, none of them the victim itself."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from clipmend.report.cleaning import cleanings
from clipmend.report.evidence import Evidence, Finding
from clipmend.report.pareto import COLUMNS, best_below, draw_pareto, pareto_table, printed_pareto
from clipmend.report.published import beside_published, printed_published
from clipmend.report.removal import survives_every_epoch
from clipmend.stages.report import run

DEFAULT = {"lr": 3e-2, "mmcl_weight": 1.0, "ssl_weight": 1.0, "weight_decay": 0.1, "pairs": 100}
DEFAULT |= {"shrink": 1.0, "perturb": 0.0}
LOSSES: dict[str, dict[str, float]] = {
    "mmcl": {"ssl_weight": 0.0},
    "ssl": {"mmcl_weight": 0.0},
    "mmcl_ssl": {},
}
START = (0.90, 0.95)


def verdict_of(tree: Any) -> Finding:
    table = pareto_table(cleanings(tree.inputs))
    evidence = Evidence(pd.DataFrame(), pd.DataFrame(), table, {}, 0.95)
    return survives_every_epoch(evidence, {"planted": 0.5, "margin": 0.02})


def sweep(
    tree: Any, victim: str, name: str, settings: dict[str, Any], rates: list[tuple[float, float]]
) -> None:
    """Write a cleaning run whose epochs have these CA and ASR, after the victim's own."""
    folder = tree.cell(f"baselines/{victim}/{name}", name, DEFAULT | settings)
    points = [START, *rates]
    rows = {
        "step": range(len(points)),
        "epoch": [float(epoch) for epoch in range(len(points))],
        "loss": [None, *(1.0 for _ in rates)],
        "clean_accuracy": [clean for clean, _ in points],
        "n_clean": 2000,
        "attack_success_rate": [attack for _, attack in points],
        "n_triggered": 1900,
    }
    pd.DataFrame(rows).to_csv(folder / "curve.csv", index=False)


def base_grid(tree: Any, **further: Any) -> Any:
    grid = {"attacks": ["unpoisoned", "badnet"], "repairs": ["none"], **further}
    tree.grid(**grid)
    for corpus in grid.get("corpora", ("scenes",)):
        folder = tree.root / f"download/{corpus}"
        pd.DataFrame({"id": range(300)}).to_parquet(folder / "trusted.parquet")
    return tree


@pytest.fixture
def planted(tree: Any) -> Any:
    """Return a tree in which CleanCLIP cleans mmcl at a point's loss, and mmcl_ssl at ten."""
    base_grid(tree)
    for objective, lost in (("mmcl", 0.01), ("mmcl_ssl", 0.10)):
        victim = f"scenes/badnet/{objective}/seed0"
        high = [(0.91, 0.60), (0.905, 0.20)]
        low = [(START[0] - lost, 0.04), (START[0] - lost - 0.02, 0.001)]
        sweep(tree, victim, "cleanclip@a", {"lr": 1e-3}, high)
        sweep(tree, victim, "cleanclip@b", {"lr": 1e-2}, low)
        sweep(tree, victim, "cleanclip@mmcl", LOSSES["mmcl"], [(0.92, 0.94)])
        sweep(tree, victim, "cleanclip@wd", {"lr": 1e-2, "weight_decay": 10.0}, [(0.5, 0.02)])
        sweep(tree, victim, "cleanclip@sp", {"lr": 1e-2, "shrink": 0.9}, [(0.6, 0.08)])
    return tree


def row_of(table: pd.DataFrame, objective: str, cleaning: str) -> dict[str, Any]:
    (row,) = table[(table["objective"] == objective) & (table["cleaning"] == cleaning)].to_dict(
        "records"
    )
    return row


def test_the_table_is_what_was_planted(planted: Any) -> None:
    table = pareto_table(cleanings(planted.inputs))
    assert tuple(table.columns) == COLUMNS
    assert row_of(table, "mmcl", "mmcl_ssl") == {
        "corpus": "scenes",
        "attack": "badnet",
        "objective": "mmcl",
        "seed": 0,
        "cleaning": "mmcl_ssl",
        "clean_pairs": 100,
        "split": "val",
        "start_clean_accuracy": 0.90,
        "start_attack_success_rate": 0.95,
        "max_clean_accuracy": 0.91,
        "max_clean_accuracy_asr": 0.60,
        "best_clean_accuracy_asr5": pytest.approx(0.89),
        "best_clean_accuracy_asr5_asr": 0.04,
        "best_clean_accuracy_asr10": pytest.approx(0.89),
        "min_attack_success_rate": 0.20,  # 0.91 - 0.905 is within a point; 0.89 is not
        "min_attack_success_rate_ca": 0.905,
        "n_clean": 2000,
        "n_triggered": 1900,
        "n_runs": 2,
        "n_epochs": 4,
    }


def test_what_was_changed_beside_the_rate_stands_by_itself(planted: Any) -> None:
    names = pareto_table(cleanings(planted.inputs))["cleaning"]
    assert list(names)[:4] == [
        "mmcl",
        "mmcl_ssl",
        "mmcl_ssl, shrink 0.9",
        "mmcl_ssl, weight_decay 10",
    ]


def test_a_cleaning_that_never_reaches_the_limit_says_so(planted: Any) -> None:
    table = pareto_table(cleanings(planted.inputs))
    row = row_of(table, "mmcl", "mmcl")
    assert np.isnan(row["best_clean_accuracy_asr5"])
    by_loss, beside = printed_pareto(table)
    assert [entry.text for entry in by_loss.rows[0]][:1] == ["mmcl"]
    assert [entry.text for entry in by_loss.rows[0]].count("none") == 2
    assert len(beside.rows) == 4


def test_a_shrunk_victim_is_still_compared_with_what_it_was(tree: Any) -> None:
    base_grid(tree)
    victim = "scenes/badnet/mmcl/seed0"
    sweep(tree, victim, "cleanclip@a", {}, [(0.8, 0.1)])
    sweep(tree, victim, "cleanclip@sp", {"shrink": 0.5}, [(0.7, 0.1)])
    path = tree.root / f"baselines/{victim}/cleanclip@sp/curve.csv"
    curve = pd.read_csv(path)
    curve.loc[0, "clean_accuracy"] = 0.1
    curve.to_csv(path, index=False)
    table = pareto_table(cleanings(tree.inputs))
    assert list(table["start_clean_accuracy"]) == [0.9, 0.9]


def test_of_equal_accuracies_the_lower_attack_success_is_best() -> None:
    points = pd.DataFrame(
        {"clean_accuracy": [0.8, 0.8, 0.9], "attack_success_rate": [0.04, 0.01, 0.05]}
    )
    best = best_below(points, 0.05)
    assert best is not None
    assert best["attack_success_rate"] == 0.01
    assert best_below(points, 0.01) is None  # below, not at


def test_a_panel_for_each_objective_and_loss_holds_every_epoch(planted: Any) -> None:
    figure = draw_pareto(cleanings(planted.inputs))
    assert [axes.get_title().split("\n") for axes in figure.axes] == [
        ["mmcl", "cleaned by mmcl: none"],
        ["mmcl", "cleaned by mmcl_ssl: 89.0 / 4.0"],
        ["mmcl_ssl", "cleaned by mmcl: none"],
        ["mmcl_ssl", "cleaned by mmcl_ssl: 80.0 / 4.0"],
    ]
    dots = figure.axes[1].collections
    points = {tuple(point) for part in dots for point in part.get_offsets().tolist()}
    assert points == {(0.6, 0.91), (0.2, 0.905), (0.04, 0.89), (0.001, 0.87)}


def test_seeds_share_a_panel_and_have_shapes_of_their_own(tree: Any) -> None:
    base_grid(tree, seeds=(0, 1))
    for seed in (0, 1):
        victim = f"scenes/badnet/mmcl/seed{seed}"
        sweep(tree, victim, "cleanclip@a", {}, [(0.9, 0.5)])
    figure = draw_pareto(cleanings(tree.inputs))
    (axes,) = figure.axes
    shapes = [dots.get_paths()[0].vertices.shape for dots in axes.collections]
    assert len(set(shapes)) == len(shapes) == 2
    (key,) = figure.legends
    assert {"seed 0", "seed 1"} <= {text.get_text() for text in key.get_texts()}


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0.10, "supported"), (0.02, "not supported"), (None, "supported")]
)
def test_the_verdict_is_computed_from_what_both_objectives_lost(
    tree: Any, lost: float | None, verdict: str
) -> None:
    base_grid(tree)
    for objective, less in (("mmcl", 0.01), ("mmcl_ssl", lost)):
        reached = [(0.9, 0.5)] if less is None else [(0.9 - less, 0.02)]
        sweep(tree, f"scenes/badnet/{objective}/seed0", "cleanclip@a", {}, reached)
    judged = verdict_of(tree)
    assert judged.verdict == verdict
    assert ("1 of the `mmcl_ssl` ones" in judged.because) is (lost is None)


@pytest.mark.parametrize("weak", ["mmcl", "mmcl_ssl"])
def test_a_backdoor_that_was_not_planted_under_either_tests_nothing(tree: Any, weak: str) -> None:
    base_grid(tree)
    for objective, less in (("mmcl", 0.01), ("mmcl_ssl", 0.10)):
        victim = f"scenes/badnet/{objective}/seed0"
        sweep(tree, victim, "cleanclip@a", {}, [(0.9 - less, 0.02)])
    path = tree.root / f"baselines/scenes/badnet/{weak}/seed0/cleanclip@a/curve.csv"
    curve = pd.read_csv(path)
    curve.loc[0, "attack_success_rate"] = 0.3
    curve.to_csv(path, index=False)
    assert verdict_of(tree).verdict == "not tested here"


def test_victims_that_no_epoch_cleans_under_mmcl_support_nothing(tree: Any) -> None:
    base_grid(tree)
    for objective in ("mmcl", "mmcl_ssl"):
        sweep(tree, f"scenes/badnet/{objective}/seed0", "cleanclip@a", {}, [(0.9, 0.5)])
    judged = verdict_of(tree)
    assert judged.verdict == "not supported"


def test_over_seeds_the_whole_interval_must_lie_on_the_claims_side(tree: Any) -> None:
    base_grid(tree, seeds=(0, 1))
    for seed, lost in ((0, 0.30), (1, 0.02)):
        for objective, less in (("mmcl", 0.01), ("mmcl_ssl", lost)):
            victim = f"scenes/badnet/{objective}/seed{seed}"
            sweep(tree, victim, "cleanclip@a", {}, [(0.9 - less, 0.02)])
    judged = verdict_of(tree)
    assert judged.verdict == "not supported"
    assert "+15.0 (-" in judged.because


def test_plain_cleanclip_alone_is_no_sweep_and_leaves_the_report_as_it_was(tree: Any) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none", "cleanclip"])
    assert cleanings(tree.inputs) == []
    job = tree.job()
    run(job)
    assert not list(job.out.glob("pareto*"))
    assert "What cleaning can reach" not in (job.out / "index.html").read_text()


def test_the_papers_rows_and_ours_stand_in_the_same_columns(planted: Any) -> None:
    table = beside_published(pareto_table(cleanings(planted.inputs)), planted.inputs)
    theirs, ours = (table[table["source"] == name] for name in ("arXiv:2311.14948", "this run"))
    assert len(theirs) == 20
    assert set(theirs["measured_on"]) == {"ImageNet val, 50000"}
    known = theirs[(theirs["corpus"] == "CC6M") & (theirs["cleaning"] == "mmcl_ssl")]
    known = known[known["objective"] == "mmcl"]
    assert list(known.iloc[0])[-8:] == [
        *("23.76", "99.98", "25.06", "12.57", "24.04", "24.96", "5.35", "24.20")
    ]
    mine = ours[(ours["objective"] == "mmcl") & (ours["cleaning"] == "mmcl_ssl")].iloc[0]
    assert mine["poisons"] == "17"
    assert mine["pairs"] == "200"
    assert mine["best_ca_asr5"] == "89.00"
    assert ours[ours["cleaning"] == "mmcl"].iloc[0]["best_ca_asr5"] == "none"
    printed = printed_published(table)
    assert all(len(row) == len(printed.header) for row in printed.rows)


def test_the_page_shows_the_sweep_and_says_whose_numbers_are_whose(planted: Any) -> None:
    job = planted.job()
    run(job)
    names = {path.name for path in job.out.glob("pareto*")}
    assert names == {"pareto.csv", "pareto_published.csv", "pareto.svg", "pareto.png"}
    page = (job.out / "index.html").read_text()
    assert "Rows of arXiv:2311.14948 are theirs" in page
    assert "What cleaning can reach on val, in percent" in page
    assert 'href="pareto_published.csv"' in page
    for figure in ("curves", "ca_vs_asr"):  # which have no room for a line each
        assert "cleanclip@" not in (job.out / f"{figure}.svg").read_text()
