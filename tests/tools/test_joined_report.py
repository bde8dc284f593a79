"""clipmend report --from: parts become one report, gaps are listed, strangers are refused."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from clipmend.cli import app
from clipmend.engine import grid, params, plan
from clipmend.engine.cell import Place
from clipmend.engine.index import Index
from clipmend.errors import ArtifactError
from clipmend.report.detection import COLUMNS
from clipmend.stages import report as stage
from clipmend.tools.joined_report import join_reports, partial_report

PRESET = Path(__file__).parents[2] / "params.yaml"
FT = "evaluate/scenes/badnet/mmcl/seed0/ft/badnet"


@pytest.fixture(scope="module")
def whole():
    return grid.cells(params.load(PRESET), Index())


def card(cell, **changed):
    written = {"metrics.json": {"sha256": "0" * 64, "size": 1}}
    made = cell.ingredients() | {"key": cell.key, "inputs": {}, "outputs": written}
    made["environment"] = {"device": "cpu", "cpu": "x86_64", "packages": {"torch": "2.13.0"}}
    return made | changed


def row(name):
    place = Place.parse(name)
    fields = ("corpus", "attack", "trigger", "objective", "seed", "method")
    rates = {"clean_accuracy": 0.8, "attack_success_rate": 0.1}
    return {
        **{name: getattr(place, name) for name in fields},
        "stage": "pretrain" if place.method == "none" else "baselines",
        "control": place.method.startswith("ubt@"),
        "needs": "",
        **{f"{name}{end}": rate for name, rate in rates.items() for end in ("", "_low", "_high")},
        **{"n_clean": 100, "n_triggered": 90, "found": None},
    }


def write_part(folder, cards, names):
    folder.mkdir(parents=True)
    pd.DataFrame(map(row, names)).to_csv(folder / "cells.csv", index=False)
    (folder / "cards.jsonl").write_text("".join(json.dumps(one) + "\n" for one in cards))
    return folder


def part(folder, whole, is_in=lambda _: True, **changed):
    """Write a report with the evaluated cells that ``is_in`` takes, and the cards of all else."""
    names = [name for name in whole if name.startswith("evaluate/") and is_in(name)]
    listed = [n for n, c in whole.items() if n in names or c.stage not in ("evaluate", "report")]
    return write_part(folder, [card(whole[name], **changed) for name in listed], names)


def halves(tmp_path, whole):
    """Write a report per objective; both have the undefended victims of mmcl."""
    return [
        part(tmp_path / "first", whole, lambda name: "/mmcl/" in name),
        part(tmp_path / "second", whole, lambda name: "_ssl/" in name or "/none/" in name),
    ]


def test_parts_become_the_whole_and_a_cell_of_two_counts_once(whole, tmp_path) -> None:
    line = join_reports(halves(tmp_path, whole), tmp_path / "out", PRESET)
    assert line == "0 of 56 evaluated cells of the grid are missing."
    cells = pd.read_csv(tmp_path / "out/cells.csv")
    assert len(cells) == 56
    assert not cells.duplicated(["attack", "trigger", "objective", "method"]).any()
    assert list(dict.fromkeys(cells["attack"])) == ["unpoisoned", "badnet", "blended"]
    assert pd.read_csv(tmp_path / "out/gaps.csv").empty
    text = (tmp_path / "out/table.md").read_text()
    assert "| ubt@random† | 80.0 |" in text
    assert "# Gaps" not in text
    assert "- Joined from first, second.\n- Made on: cpu, x86_64, torch 2.13.0." in text
    page = (tmp_path / "out/index.html").read_text()
    assert 'id="ca_vs_asr"' in page
    assert 'id="curves"' not in page  # a report has no curves of the cells
    for name in [name for name in page.split('href="')[1:] if not name.startswith("#")]:
        assert (tmp_path / "out" / name.partition('"')[0]).is_file()


def test_a_joined_report_can_be_joined_again_and_cards_may_be_compressed(whole, tmp_path) -> None:
    first, second = halves(tmp_path, whole)
    cards = (first / "cards.jsonl").read_bytes()
    (first / "cards.jsonl.gz").write_bytes(gzip.compress(cards))
    (first / "cards.jsonl").unlink()
    join_reports([first], tmp_path / "out", PRESET)
    join_reports([tmp_path / "out", second], tmp_path / "again", PRESET)
    assert len(pd.read_csv(tmp_path / "again/cells.csv")) == 56


def test_a_gap_is_a_cell_of_the_grid_that_no_report_has(whole, tmp_path) -> None:
    only = part(tmp_path / "only", whole, lambda name: name != FT)
    line = join_reports([only], tmp_path / "out", PRESET)
    assert line == "1 of 56 evaluated cells of the grid are missing."
    (gap,) = pd.read_csv(tmp_path / "out/gaps.csv").to_dict("records")
    assert Place("evaluate", **gap).path == FT
    text = (tmp_path / "out/table.md").read_text()
    assert "| scenes | mmcl | badnet | 1 of 7 | ft | 0 |" in text


def test_claims_are_checked_on_all_parts_and_at_their_scale(whole, tmp_path) -> None:
    parts = halves(tmp_path, whole)
    shared = {"corpus": "scenes", "objective": "mmcl", "seed": 0, "stage": "detect"}
    shared |= {"method": "pud", "n_pairs": 8000, "precision_at_budget": 0.9}
    badnet = shared | {"attack": "badnet", "auroc": 0.9, "n_poisoned": 20}
    blended = shared | {"attack": "blended", "auroc": 0.7, "n_poisoned": 30}
    for folder, rows in zip(parts, ([badnet], [badnet, blended]), strict=True):
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "detectors.csv", index=False)
    join_reports(parts, tmp_path / "out", PRESET)
    assert pd.read_csv(tmp_path / "out/detectors.csv")["auroc"].tolist() == [0.9, 0.7]
    claims = {one["id"]: one for one in json.loads((tmp_path / "out/claims.json").read_text())}
    claim = claims["pud_identifies_poison"]
    assert claim["outcome"] == "supported"
    assert "n = 2 victims of one seed" in claim["because"]
    scale = claim["scale"]["scenes"]
    assert (scale["train_pairs"], scale["poisoned_pairs"]) == (8000, {"badnet": 20, "blended": 30})
    assert scale["model"] == whole["pretrain/scenes/badnet/mmcl/seed0"].shared["model"]


@pytest.mark.parametrize("what", ["code", "settings", "shared", "files"])
def test_reports_made_in_another_way_are_refused(whole, tmp_path, what) -> None:
    parts = halves(tmp_path, whole)
    path = parts[1] / "cards.jsonl"
    cards = [json.loads(line) for line in path.read_text().splitlines()]
    for one in cards:
        if one["stage"] == "evaluate":
            one[what] |= {"clipmend.metrics.rates": "other"}
    # A cell of two reports would differ too, and be reported first.
    cards = [one for one in cards if "/mmcl/" not in one["cell"] or one["stage"] != "evaluate"]
    path.write_text("\n".join(map(json.dumps, cards)))
    rows = pd.read_csv(parts[1] / "cells.csv")
    rows[rows["objective"] != "mmcl"].to_csv(parts[1] / "cells.csv", index=False)
    with pytest.raises(ArtifactError, match=f"differ in {what}: clipmend.metrics.rates"):
        join_reports(parts, tmp_path / "out", PRESET)
    assert not (tmp_path / "out").exists()


def test_two_measurements_of_one_cell_must_be_the_same(whole, tmp_path) -> None:
    parts = [
        part(tmp_path / "first", whole, lambda name: "/mmcl/" in name),
        part(tmp_path / "second", whole, key="f" * 64),
    ]
    with pytest.raises(ArtifactError, match=r"second cannot be joined with .*first: "):
        join_reports(parts, tmp_path / "out", PRESET)


def test_numbers_without_their_card_are_refused(tmp_path) -> None:
    folder = write_part(tmp_path / "part", [], [FT])
    with pytest.raises(ArtifactError, match=f"has no card for {FT}"):
        join_reports([folder], tmp_path / "out", PRESET)
    with pytest.raises(ArtifactError, match=r"nothing/cells\.csv is missing"):
        join_reports([tmp_path / "nothing"], tmp_path / "out", PRESET)


def test_the_command_joins_folders_and_asks_for_a_new_one(whole, tmp_path) -> None:
    parts, out = map(str, halves(tmp_path, whole)), str(tmp_path / "out")
    command = ["report", "--from", *parts, "--out", out, "--params", str(PRESET)]
    done = CliRunner().invoke(app, command)
    assert done.output == "0 of 56 evaluated cells of the grid are missing.\n"
    again = CliRunner().invoke(app, command)
    assert "name a new folder" in str(again.exception)
    assert "--out DIR" in str(CliRunner().invoke(app, ["report", "--from", out]).exception)


def test_a_partial_report_has_the_proven_cells_of_the_plan_alone(
    whole, tmp_path, monkeypatch
) -> None:
    jobs = []
    monkeypatch.setattr(plan, "load", lambda: plan.Plan("cpu", whole))
    monkeypatch.setattr(plan, "faults", lambda *_: {FT: "not made yet"})
    monkeypatch.setattr(stage, "run", jobs.append)
    line = partial_report(tmp_path / "out")
    assert line == f"{len(whole) - 2:,} of {len(whole) - 1:,} cells are made."
    (job,) = jobs
    assert job.inputs.keys() == whole.keys() - {FT, "report"}
    assert job.out == tmp_path / "out"
