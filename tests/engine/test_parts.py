"""Parts of a stage that some cells run: from params.yaml through the plan to finished cells."""

import json
from pathlib import Path

import pandas as pd
import yaml

from clipmend.engine import locks, plan, presets, runner

PRESETS = Path(__file__).parents[2] / "params"
VICTIM = "scenes@smoke/badnet/mmcl/seed0"
CHANGES = {
    "device": "cpu",
    "arithmetic": "fastest",
    "download": {
        "settings": {"scenes@smoke": {"train": 200, "trusted": 40, "val": 40, "test": 60}}
    },
    "pretrain": {"methods": ["mmcl"], "settings": {"mmcl": {"epochs": 1, "early_epoch": 1}}},
    "detect": {"methods": ["strip"], "settings": {"strip": {"images": 20, "overlays": 2}}},
    "unlearn": {"methods": []},
    "baselines": {"methods": []},
    "evaluate": {
        "adversarial": {"epsilons": []},
        "further": ["retrieval", "linear_probe", "tower_swap"],
    },
}


def test_a_run_makes_input_scores_and_further_numbers_and_reports_them(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_held", {})
    smoke = presets.values(PRESETS / "smoke.yaml")
    Path("params.yaml").write_text(yaml.safe_dump(presets.merge(smoke, CHANGES)))
    made = plan.arrange()
    assert {cell.stage for cell in made.cells.values()} >= {"detect", "evaluate", "report"}
    for name in made.cells:
        runner.run(name, cores=1)
    folder = Path("results/detect") / VICTIM / "strip"
    assert {path.name for path in folder.iterdir()} == {"card.json", "input_scores.parquet"}
    code = json.loads((folder / "card.json").read_text())["code"]
    assert "clipmend.stages.parts.detect_inputs" in code
    assert "clipmend.stages.detect" not in code  # an edit of the other detectors' runner is not its
    table = pd.read_csv("results/report/inputs.csv")
    assert list(table["attack"]) == ["unpoisoned", "badnet"]
    assert list(table["n_trusted"]) == [20, 20]
    assert table["auroc"].isna().tolist() == [True, False]
    cells = pd.read_csv("results/report/cells.csv").set_index(["attack", "trigger"])
    swaps = cells["swap_image_attack_success_rate"]
    assert swaps.isna().tolist() == [True, False]  # an unpoisoned victim has no other tower
    assert cells["linear_probe_accuracy"].between(0, 1).all()
    for file in locks._held.values():
        file.close()
