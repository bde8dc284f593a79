"""A victim that several processes train: one cell, one card, one curve."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from clipmend.engine import presets
from clipmend.engine.runner import UP_TO_DATE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
VICTIM = "tiny/badnet/mmcl/seed0"
SIZES = {"source": "scenes", "train": 128, "trusted": 64, "val": 64, "test": 64}
Called = subprocess.CompletedProcess[str]


def call(folder: Path, *command: str) -> Called:
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env={**inherited, "PATH": path}, text=True, capture_output=True
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which nothing is missing but the victims."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    shutil.copytree(ROOT / "workflow/profiles", folder / "profiles")
    params = presets.values(presets.preset("smoke"))
    params["device"] = "cpu"
    params["download"] = {"corpora": ["tiny"], "settings": {"tiny": SIZES}}
    params["pretrain"]["settings"]["mmcl"] = {"epochs": 3, "early_epoch": 1, "batch_size": 48}
    params["pretrain"]["settings"]["mmcl_ssl"] = {
        "epochs": 1,
        "early_epoch": 1,
        "batch_size": 48,
        "lr": 1e30,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    made = call(folder, "snakemake", "--cores", "1", "results/poison/tiny/badnet/seed0/card.json")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def fresh(project: Path) -> Callable[..., Called]:
    """Return what makes the victim anew by a command."""

    def make(*command: str) -> Called:
        shutil.rmtree(project / "results/pretrain", ignore_errors=True)
        shutil.rmtree(project / ".clipmend/store", ignore_errors=True)
        return call(project, *command)

    return make


def curve(project: Path) -> list[dict[str, str]]:
    text = (project / f"results/pretrain/{VICTIM}/curve.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def card(project: Path) -> dict[str, object]:
    return json.loads((project / f"results/pretrain/{VICTIM}/card.json").read_text())


def test_processes_make_the_cell_that_one_process_makes(
    project: Path, fresh: Callable[..., Called]
) -> None:
    assert fresh("clipmend", "pretrain", VICTIM).returncode == 0
    alone, one = curve(project), card(project)
    for command in (
        ("clipmend", "pretrain", VICTIM, "--processes", "2"),
        ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "clipmend", "pretrain", VICTIM),
    ):
        done = fresh(*command)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch 3/3") == 1
        assert card(project)["key"] == one["key"]
        assert card(project)["environment"]["device"] == "cpu, 2 processes"
        # After so few steps rounding has moved the loss by a thousandth (docs/how-to/scale.md).
        for together, before in zip(curve(project)[1:], alone[1:], strict=True):
            assert float(together["loss"]) == pytest.approx(float(before["loss"]), rel=0.01)
        again = call(project, *command)
        assert (again.returncode, UP_TO_DATE in again.stderr) == (0, True)


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ("tiny/badnt/mmcl/seed0", "Did you mean 'pretrain/tiny/badnet/mmcl/seed0'?"),
        ("tiny/badnet/mmcl_ssl/seed0", "try a learning rate below"),
    ],
)
def test_an_error_in_several_processes_is_reported_once(
    fresh: Callable[..., Called], victim: str, said: str
) -> None:
    done = fresh("clipmend", "pretrain", victim, "--processes", "2")
    assert done.returncode == 2
    assert done.stderr.count("clipmend: ") == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_another_stage_in_several_processes_is_refused(project: Path) -> None:
    command = ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "clipmend")
    done = call(project, *command, "download", "tiny")
    assert done.returncode != 0
    assert "cannot run with 2 processes; only pretrain" in done.stderr
