"""metrics.json says what the tables say, under names that DVC can compare."""

import json

import pandas as pd
import pytest

from clipmend.stages.report import run


@pytest.fixture(scope="module")
def made(lasting_tree):
    grid = {"attacks": ["unpoisoned", "badnet"], "objectives": ["mmcl"], "repairs": ["none", "ubt"]}
    job = lasting_tree.grid(**grid, seeds=(0, 1)).job()
    run(job)
    return job.out


def test_each_row_of_the_table_is_there_and_unpoisoned_victims_name_the_trigger(made) -> None:
    stated = json.loads((made / "metrics.json").read_text())["evaluate"]["scenes"]["mmcl"]
    assert stated.keys() == {"badnet", "unpoisoned under badnet"}
    table = pd.read_csv(made / "table.csv").set_index(["attack", "method"])
    names = {"badnet": "badnet", "unpoisoned": "unpoisoned under badnet"}
    for (attack, method), row in table.iterrows():
        rates = {name: row[name] for name in ("clean_accuracy", "attack_success_rate")}
        assert stated[names[attack]][method] == pytest.approx(rates)
    assert len(table) == 4


def test_detectors_are_means_over_seeds_and_left_out_where_nothing_is_poisoned(made) -> None:
    stated = json.loads((made / "metrics.json").read_text())["detect"]["scenes"]["mmcl"]
    assert stated.keys() == {"badnet"}
    judged = pd.read_csv(made / "detectors.csv")
    ubt = judged[(judged["attack"] == "badnet") & (judged["method"] == "ubt")]
    assert len(ubt) == 2
    assert stated["badnet"]["ubt"]["auroc"] == pytest.approx(ubt["auroc"].mean())
