"""The whole graph on pairs fetched from a web on loopback."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipmend.download.scenes import Scenes

pytest.importorskip("img2dataset", reason="the extra cc3m is not installed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def call(folder: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    logs = "".join(log.read_text()[-2000:] for log in folder.glob("logs/**/*.log"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:] + logs
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(web: Any, page: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("Snakefile", "workflow", "profiles", "data"):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
        else:
            ignored = shutil.ignore_patterns("photos")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    source = Scenes(train=500, test=120, image_size=32)
    rows = source.split("train").to_pylist()
    for at, row in enumerate(rows):
        kind = page("status", place="410") if at % 10 == 0 else page("image", row["image"])
        web.pages[f"/{at}.png"] = kind
    lines = (f"{row['caption']}\t{web.root}/{at}.png\n" for at, row in enumerate(rows))
    (folder / "Train.tsv").write_text("".join(lines))
    for row in source.split("test").to_pylist():
        file = folder / "labelled" / row["label"] / f"{row['id']}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row["image"])
    settings = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    corpus = {
        "path": "Train.tsv",
        "test_path": "labelled",
        "train": 400,
        "trusted": 100,
        "val": 40,
        "classes": list(source.classes),
        "prompts": ["a photo of a {}"],
        "image_size": 32,
        "private_networks": ["127.0.0.1/32"],
    }
    settings["poison"]["methods"] = ["badnet"]
    settings["pretrain"] |= {
        "methods": ["mmcl"],
        "settings": {"mmcl": {"epochs": 3, "early_epoch": 1}},
    }
    settings["download"] = {"corpora": ["cc3m"], "settings": {"cc3m": corpus}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_the_graph_runs_from_addresses_to_the_table(project: Path) -> None:
    call(project, "snakemake", "--cores", "2", "all")
    told = json.loads((project / "results/download/cc3m/facts.json").read_text())
    assert told["splits"]["train"]["failed"] + told["splits"]["trusted"]["failed"] == 50
    with (project / "results/report/table.csv").open() as file:
        assert {row["corpus"] for row in csv.DictReader(file)} == {"cc3m"}
    card = json.loads((project / "results/download/cc3m/card.json").read_text())
    assert {"ledger.parquet", "facts.json", "train.parquet"} <= card["outputs"].keys()


def test_an_idle_graph_asks_the_web_for_nothing(project: Path, web: Any) -> None:
    web.asked.clear()
    assert "Nothing to be done" in call(project, "snakemake", "-n", "all")
    assert not web.asked
