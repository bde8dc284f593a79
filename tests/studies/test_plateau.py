"""`studies/tuning/plateau.py` summarizes the curves of a search."""

from pathlib import Path

import pandas as pd

from studies.tuning.plateau import draw, read_curves, summarize


def test_a_run_has_its_rates_at_the_start_late_and_at_the_end(tmp_path: Path) -> None:
    for variant, final in (("lr1e-3", 0.2), ("lr3e-3x4", 0.1)):
        folder = tmp_path / f"baselines/scenes/badnet/mmcl/seed0/ft@{variant}"
        folder.mkdir(parents=True)
        steps = pd.DataFrame({"step": [0, 30, 40], "clean_accuracy": [0.9, 0.8, 0.7]})
        steps.assign(attack_success_rate=[1.0, 0.5, final]).to_csv(folder / "curve.csv")
    points = read_curves(tmp_path)
    ends = summarize(points).set_index("variant")
    assert list(ends["method"].unique()) == ["ft"]
    assert list(ends["attack_success_rate_end"]) == [0.2, 0.1]
    assert set(ends["attack_success_rate_three_quarters"]) == {0.5}
    assert set(ends["clean_accuracy_start"]) == {0.9}
    (axes,) = draw(points).axes
    assert len(axes.lines) == 4  # two rates of two settings
