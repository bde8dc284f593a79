"""The whole path on a small grid: the same bytes by either tool, on one core or on all."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from clipmend.tools import preset, rerun

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FILES = ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", "profiles")
METHODS = {"none", "ubt", "cleanclip"}


def clone(folder: Path) -> Path:
    """Return a project with the smoke preset, in git and DVC, with nothing made yet."""
    for name in FILES:
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    ignored = shutil.ignore_patterns("__pycache__", "photos")
    for name in ("workflow", "src", "data"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    text, both = preset.render("smoke"), "methods: [mmcl, mmcl_ssl]"
    assert both in text
    # A job takes seconds, most of them for its imports: one objective has half of the jobs.
    text = text.replace(both, "methods: [mmcl]")
    # One more detector, of inputs, and the numbers that a run must ask for.
    text = text.replace("  methods: [ubt]", "  methods: [ubt, strip]", 1)
    text = text.replace("  # further: []", "  further: [retrieval, linear_probe, tower_swap]")
    (folder / "params.yaml").write_text(text)
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    return folder


def call(folder: Path, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def contents(folder: Path) -> dict[str, bytes]:
    results = folder / "results"
    kept = (path for path in sorted(files(results)) if path.name != ".gitignore")
    return {path.as_posix(): (results / path).read_bytes() for path in kept}


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def by_dvc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = clone(tmp_path_factory.mktemp("dvc"))
    call(folder, "dvc", "repro")
    return folder


@pytest.fixture(scope="module")
def by_snakemake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = clone(tmp_path_factory.mktemp("snakemake"))
    call(folder, "snakemake", "--cores", "1", "all")
    return folder


def test_the_partial_report_of_a_whole_run_is_its_report(by_snakemake, tmp_path) -> None:
    gathered, report = tmp_path / "gathered", by_snakemake / "results/report"
    call(by_snakemake, "clipmend", "report", "--partial", str(gathered))
    names = files(report) - {Path("card.json")}
    assert files(gathered) == names
    assert [n for n in names if (gathered / n).read_bytes() != (report / n).read_bytes()] == []


def test_a_partial_report_lacks_only_the_cells_that_are_not_proven(by_snakemake, tmp_path) -> None:
    shutil.copytree(by_snakemake, tmp_path / "part", symlinks=True)
    lost = next((tmp_path / "part/results/evaluate").rglob("ubt/badnet/metrics.json"))
    lost.unlink()
    call(tmp_path / "part", "clipmend", "report", "--partial", "gathered")
    whole = pd.read_csv(by_snakemake / "results/report/cells.csv")
    part = pd.read_csv(tmp_path / "part/gathered/cells.csv")
    assert len(part) == len(whole) - 1
    assert list(part.columns) == list(whole.columns)


def test_dvc_on_all_cores_and_snakemake_on_one_write_the_same_bytes(by_dvc, by_snakemake) -> None:
    one, other = contents(by_dvc), contents(by_snakemake)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_after_dvc_there_is_nothing_left_to_do(by_dvc) -> None:
    dry = call(by_dvc, "snakemake", "-n", "all")
    assert "Nothing to be done" in dry.stdout + dry.stderr
    assert "up to date" in call(by_dvc, "dvc", "status").stdout


def test_the_tables_have_a_row_for_every_cell(by_snakemake) -> None:
    report = by_snakemake / "results/report"
    cells = pd.read_csv(report / "cells.csv")
    assert set(cells["method"]) == METHODS
    assert len(cells) == 2 * len(METHODS)  # attacks
    assert cells["clean_accuracy"].between(0, 1).all()
    assert (cells["n_clean"] == 200).all()
    assert (cells["n_triggered"] < 200).all()
    low, high = cells["attack_success_rate_low"], cells["attack_success_rate_high"]
    assert cells["attack_success_rate"].between(low, high).all()
    assert len(pd.read_csv(report / "table.csv")) == len(cells)  # one seed
    detectors = pd.read_csv(report / "detectors.csv")
    assert set(detectors.loc[detectors["attack"] == "badnet", "n_poisoned"]) == {40}
    assert list(pd.read_csv(report / "inputs.csv")["attack"]) == ["unpoisoned", "badnet"]
    swapped = cells.loc[cells["attack"] == "badnet", "swap_text_accuracy"]
    assert swapped.between(0, 1).all()


def test_every_cell_in_the_report_has_its_card(by_snakemake) -> None:
    lines = (by_snakemake / "results/report/cards.jsonl").read_text().splitlines()
    cards = {card["cell"] for card in map(json.loads, lines)}
    on_disk = {name.removesuffix("/card.json") for name in contents(by_snakemake)}
    folders = {name for name in on_disk if (by_snakemake / "results" / name).is_dir()}
    assert cards == folders - {"report"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("poison_rate: 0.05", "poison_rat: 0.05", "poison_rate"),
        ("# pretrained: null", "pretrained: data/none.pt", "data/none.pt"),
    ],
)
def test_a_mistake_in_params_is_one_line_and_exit_2_before_anything_runs(
    by_snakemake, old, new, said
) -> None:
    params = by_snakemake / "params.yaml"
    text = params.read_text()
    assert old in text
    before = contents(by_snakemake)
    params.write_text(text.replace(old, new))
    try:
        done = call(by_snakemake, "snakemake", "--cores", "1", "all", code=2)
    finally:
        params.write_text(text)
    assert said in done.stderr
    # Before it reads the Snakefile, Snakemake says which profile it uses.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow")]
    assert [line.partition(":")[0] for line in lines] == ["clipmend"]
    assert contents(by_snakemake) == before


def test_cells_that_are_made_again_have_the_same_bytes(by_snakemake) -> None:
    before = contents(by_snakemake)
    lines = call(by_snakemake, "clipmend", "verify", "--rerun", "3").stdout.splitlines()
    assert len(lines) == 3
    assert all(re.search(r": the same \d+ files \(\d+ s\)$", line) for line in lines), lines
    assert contents(by_snakemake) == before


def test_a_number_that_its_card_confirms_is_refuted_by_making_it_again(
    by_snakemake, tmp_path, monkeypatch
) -> None:
    project = tmp_path / "forged"
    shutil.copytree(by_snakemake, project, symlinks=True)
    cell = next((project / "results" / "evaluate").rglob("metrics.json")).parent
    metrics, card = cell / "metrics.json", cell / "card.json"
    forged = metrics.read_text().replace('"value": 0', '"value": 1', 1)
    for path in (metrics, card):
        path.unlink()  # a file of the results may be one file with the store's
    metrics.write_text(forged)
    record = json.loads((by_snakemake / card.relative_to(project)).read_text())
    digest = hashlib.sha256(forged.encode()).hexdigest()
    record["outputs"]["metrics.json"] = {"sha256": digest, "size": len(forged.encode())}
    card.write_text(json.dumps(record))
    name = cell.relative_to(project / "results").as_posix()
    monkeypatch.chdir(project)
    monkeypatch.setattr("random.sample", lambda *_: [name])
    ((is_same, line),) = rerun.rerun(1)
    assert (is_same, line.startswith(f"{name}: other bytes in metrics.json")) == (False, True)
