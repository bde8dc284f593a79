"""scripts/join.py: parts become one table, gaps are called gaps, strangers are refused."""

import json
from pathlib import Path

import pandas as pd
import pytest

from clipmend.engine import grid, params
from clipmend.engine.index import Index

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "params" / "smoke.yaml"
MMCL = "evaluate/scenes@smoke/badnet/mmcl/seed0"


@pytest.fixture(scope="module")
def join(script):
    return script("join")


@pytest.fixture(scope="module")
def whole():
    return grid.cells(params.load(PRESET), Index())


def card(cell, **changed):
    made = cell.ingredients() | {"key": cell.key, "outputs": {"metrics.json": {"size": 1}}}
    made["environment"] = {"device": "cpu", "cpu": "x86_64", "packages": {"torch": "2.13.0"}}
    return made | changed


def row(name, ca=0.8, asr=0.1):
    _, corpus, attack, objective, seed, method, trigger = name.split("/")
    return {
        "corpus": corpus,
        "attack": attack,
        "trigger": trigger,
        "objective": objective,
        "seed": int(seed[4:]),
        "stage": "pretrain" if method == "none" else "baselines",
        "method": method,
        "control": method == "ubt",
        "needs": "",
        "clean_accuracy": ca,
        "attack_success_rate": asr,
    }


def write_part(folder, cards, rows):
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "cells.csv", index=False)
    (folder / "cards.jsonl").write_text("".join(json.dumps(one) + "\n" for one in cards))


def split(folder, whole, wanted, **changed):
    """Write a part that has the evaluated cells whose name ``wanted`` takes, and all else."""
    names = [name for name in whole if name.startswith("evaluate/") and wanted(name)]
    cards = [card(cell, **changed) for name, cell in whole.items()
             if not name.startswith("evaluate/") or name in names]  # fmt: skip
    write_part(folder, cards, [row(name) for name in names])


def test_parts_become_the_whole_and_what_two_have_stands_once(join, whole, tmp_path) -> None:
    split(tmp_path / "first", whole, lambda name: "/mmcl/" in name or "/none/" in name)
    split(tmp_path / "second", whole, lambda name: "/mmcl_ssl/" in name)
    join.join(tmp_path, PRESET, [])
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert len(cells) == 12
    assert not cells.duplicated(["attack", "objective", "method"]).any()
    assert cells["attack"].tolist() == ["unpoisoned"] * 6 + ["badnet"] * 6
    assert pd.read_csv(tmp_path / "gaps.csv").empty
    text = (tmp_path / "table.md").read_text()
    assert "not measured |" not in text
    assert "| `ubt`† | 80.0 / 10.0 | 80.0 / 10.0 |" in text
    assert "Joined from first, second. 0 cells" in text
    assert "Made on: cpu, x86_64, torch 2.13.0." in text


def test_a_gap_is_a_cell_of_the_grid_that_no_part_has(join, whole, tmp_path) -> None:
    split(tmp_path / "only", whole, lambda name: not name.startswith(f"{MMCL}/cleanclip"))
    join.join(tmp_path, PRESET, [])
    (gap,) = pd.read_csv(tmp_path / "gaps.csv").to_dict("records")
    assert gap == {
        "corpus": "scenes@smoke",
        "attack": "badnet",
        "trigger": "badnet",
        "objective": "mmcl",
        "seed": 0,
        "method": "cleanclip",
    }
    text = (tmp_path / "table.md").read_text()
    assert "| `cleanclip` | 80.0 / 10.0 | not measured |" in text
    assert text.count("not measured |") == 1


def scored(attack, auroc, n_poisoned):
    victim = {"corpus": "scenes@smoke", "attack": attack, "objective": "mmcl", "seed": 0}
    told = {"n_pairs": 512, "n_poisoned": n_poisoned, "precision_at_budget": auroc}
    return victim | {"stage": "detect", "method": "pud", "auroc": auroc} | told


def test_claims_are_checked_on_all_parts_at_their_scale(join, whole, tmp_path) -> None:
    split(tmp_path / "first", whole, lambda name: "/mmcl/" in name)
    split(tmp_path / "second", whole, lambda name: "/mmcl_ssl/" in name)
    row = scored("badnet", 0.9, 20)
    pd.DataFrame([row]).to_csv(tmp_path / "first" / "detectors.csv", index=False)
    both = [row, scored("blended", 0.7, 30)]
    pd.DataFrame(both).to_csv(tmp_path / "second" / "detectors.csv", index=False)
    join.join(tmp_path, PRESET, [])
    assert pd.read_csv(tmp_path / "detectors.csv")["auroc"].tolist() == [0.9, 0.7]
    claims = {one["id"]: one for one in json.loads((tmp_path / "claims.json").read_text())}
    judged = claims["pud_identifies_poison"]
    assert judged["outcome"] == "supported"
    assert "n = 2 victims of one seed" in judged["because"]
    scale = judged["scale"]["scenes@smoke"]
    assert (scale["train_pairs"], scale["poisoned_pairs"]) == (512, {"badnet": 20, "blended": 30})
    assert scale["model"] == whole[MMCL.replace("evaluate", "pretrain")].shared["model"]
    assert judged["because"] in (tmp_path / "table.md").read_text()


def test_a_mean_over_some_of_the_seeds_says_so(join) -> None:
    name = "evaluate/scenes/badnet/mmcl/seed{}/ft/badnet"
    span = [row(name.format(seed)) for seed in range(3)]
    cells = pd.DataFrame([row(name.format(0), 0.7, 0.1), row(name.format(2), 0.9, 0.3)])
    (printed,) = join.tables(span, cells)
    assert [entry.text for entry in printed.rows[0]] == ["`ft`", "80.0 / 20.0 [2 of 3]"]


def test_an_unpoisoned_victim_has_the_asr_of_its_worst_trigger(join) -> None:
    name = "evaluate/scenes/unpoisoned/mmcl/seed0/ft/{}"
    span = [row(name.format(trigger)) for trigger in ("badnet", "blended", "sig")]
    cells = pd.DataFrame([row(name.format("badnet"), asr=0.01), row(name.format("sig"), asr=0.03)])
    (printed,) = join.tables(span, cells)
    assert printed.rows[0][1].text == "80.0 / 3.0 [2 of 3 cells]"


def test_the_grid_of_the_preset_is_spanned(join, whole) -> None:
    assert len(join.spanned(whole)) == 12


def test_the_preset_full_repairs_no_model_that_was_defended_in_training(join) -> None:
    span = join.spanned(grid.cells(params.load(PRESET.with_name("full.yaml")), Index()))
    defended = [one for one in span if one["objective"] in ("roclip", "safeclip", "siglip")]
    assert {one["method"] for one in defended} == {"none"}
    # An unpoisoned victim is tried under every trigger, three of `multi`'s among them.
    assert len(defended) == 3 * 3 * (11 + 2)


@pytest.mark.parametrize("what", ["code", "settings", "shared"])
def test_parts_made_in_another_way_are_refused(join, whole, tmp_path, what) -> None:
    split(tmp_path / "first", whole, lambda name: "/mmcl/" in name)
    split(tmp_path / "second", whole, lambda name: "/mmcl_ssl/" in name)
    lines = (tmp_path / "second" / "cards.jsonl").read_text().splitlines()
    cards = [json.loads(line) for line in lines]
    for one in cards:
        if one["stage"] == "evaluate":
            one[what] = one[what] | {"clipmend.metrics.rates": "other"}
    (tmp_path / "second" / "cards.jsonl").write_text("\n".join(map(json.dumps, cards)))
    with pytest.raises(SystemExit, match=f"differ in {what}: clipmend.metrics.rates"):
        join.join(tmp_path, PRESET, [])
    assert not (tmp_path / "cells.csv").exists()


def test_the_code_of_the_report_is_no_reason_to_refuse(join, whole, tmp_path) -> None:
    split(tmp_path / "first", whole, lambda name: "/mmcl/" in name)
    split(tmp_path / "second", whole, lambda name: "/mmcl_ssl/" in name)
    path = tmp_path / "second" / "cards.jsonl"
    cards = [json.loads(line) for line in path.read_text().splitlines()]
    for one in cards:
        if one["stage"] == "report":
            one["code"] = {}
    path.write_text("\n".join(map(json.dumps, cards)))
    join.join(tmp_path, PRESET, [])


def test_two_measurements_of_one_cell_must_be_the_same(join, whole, tmp_path) -> None:
    split(tmp_path / "first", whole, lambda name: "/mmcl/" in name)
    split(tmp_path / "second", whole, lambda _: True, key="of other inputs")
    with pytest.raises(SystemExit, match="second cannot be joined with first: evaluate/"):
        join.join(tmp_path, PRESET, [])


def test_numbers_without_their_card_are_refused(join, tmp_path) -> None:
    write_part(tmp_path / "part", [], [row(f"{MMCL}/none/badnet")])
    with pytest.raises(SystemExit, match="has no card for evaluate/scenes@smoke/badnet/mmcl"):
        join.join(tmp_path, PRESET, [])
    with pytest.raises(SystemExit, match="has no parts"):
        join.join(tmp_path / "part", PRESET, [])


def test_time_is_the_measured_and_the_median_of_like_jobs(join) -> None:
    victims = [f"scenes/badnet/{objective}/seed{seed}"
               for objective in ("mmcl", "mmcl_ssl") for seed in (0, 1)]  # fmt: skip
    cells = dict.fromkeys([f"pretrain/{victim}" for victim in victims])
    cells |= dict.fromkeys([f"baselines/{victim}/ft" for victim in victims])
    cells |= {"download/scenes": None}
    seconds = {
        f"pretrain/{victims[0]}": 100.0,
        f"pretrain/{victims[2]}": 300.0,
        f"baselines/{victims[0]}/ft": 10.0,
        f"baselines/{victims[1]}/ft": 20.0,
        "pretrain/photos/badnet/mmcl/seed0": 9999.0,  # not of this grid
    }
    cost = join.extrapolated(cells, seconds)
    assert cost.measured == 100 + 300 + 10 + 20
    # Each objective its own training time; ft was timed under one objective alone.
    assert cost.total == 2 * 100 + 2 * 300 + (10 + 20) + 2 * 15
    assert (cost.timed, cost.jobs, cost.unlike) == (4, 9, 1)


def test_only_jobs_that_made_their_cell_are_timed(join, whole, tmp_path) -> None:
    folder = tmp_path / "logs" / "benchmark"
    for method, log in (("none", ""), ("ubt", "evaluate: taken from the store")):
        tsv = folder / f"{MMCL}/{method}/badnet.tsv"
        tsv.parent.mkdir(parents=True)
        tsv.write_text("s\th:m:s\n7200.0\t2:00:00\n")
        path = tmp_path / "logs" / f"{MMCL}/{method}/badnet.log"
        path.parent.mkdir(parents=True)
        path.write_text(log)
    assert join.wall_times([folder]) == {f"{MMCL}/none/badnet": 7200.0}
    split(tmp_path / "full" / "only", whole, lambda _: True)
    join.join(tmp_path / "full", PRESET, [folder])
    text = (tmp_path / "full" / "table.md").read_text()
    assert "1 of the grid's" in text
    assert "All of them would take 24.0 hours" in text  # twelve evaluations, two hours each
    assert "an extrapolation" in text
