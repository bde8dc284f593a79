"""`params/paper.yaml` at a reduced count, from addresses on a loopback web to the table."""

import copy
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

from clipmend.engine import presets
from clipmend.methods.sources.scenes import Scenes
from clipmend.model.clip import build

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


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
        file = folder / "labeled" / row["label"] / f"{row['id']}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row["image"])
    build("scene_resnet", seed=7).save(folder, "clip.safetensors")  # plays OpenAI's weights
    settings = reduced(presets.values(ROOT / "params/paper.yaml"))
    settings["download"]["settings"]["cc3m"] |= {
        "path": "Train.tsv",
        "test_path": "labeled",
        "classes": list(source.classes),
        "prompts": ["a photo of a {}"],
        "private_networks": ["127.0.0.1/32"],
    }
    settings["pretrain"] |= {"model": "scene_resnet", "pretrained": "clip.safetensors"}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    return folder


def reduced(paper: dict[str, Any]) -> dict[str, Any]:
    """Return the preset with smaller numbers and fewer methods; what is left is the preset's."""
    settings = copy.deepcopy(paper)
    settings["device"] = "cpu"
    sizes = {"train": 400, "trusted": 100, "val": 40, "image_size": 32}
    settings["download"]["settings"]["cc3m"] |= sizes
    settings["poison"]["methods"] = ["badnet"]
    settings["poison"]["settings"]["badnet"] |= {"poison_rate": 0.05, "size": 4}
    settings["pretrain"]["methods"] = ["mmcl"]
    settings["pretrain"]["settings"]["mmcl"] |= {"epochs": 1}
    settings["detect"]["methods"] = ["clip_score", "ubt"]
    settings["unlearn"] |= {"methods": ["ubt"]}
    settings["baselines"]["methods"] = ["ft", "cleanclip"]
    for repair in ("ft", "cleanclip"):
        settings["baselines"]["settings"][repair] |= {"epochs": 1, "batch_size": 64}
    return settings


def test_the_graph_runs_from_addresses_to_the_table(project: Path) -> None:
    call(project, "snakemake", "--cores", "2", "all")
    facts = json.loads((project / "results/download/cc3m/facts.json").read_text())
    assert facts["splits"]["train"]["failed"] + facts["splits"]["trusted"]["failed"] == 50
    with (project / "results/report/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["corpus"] for row in rows} == {"cc3m"}
    assert {row["method"] for row in rows} == {"none", "ft", "cleanclip", "ubt"}
    card = json.loads((project / "results/download/cc3m/card.json").read_text())
    assert {"ledger.parquet", "facts.json", "train.parquet"} <= card["outputs"].keys()


def test_an_idle_graph_asks_the_web_for_nothing(project: Path, web: Any) -> None:
    web.asked.clear()
    assert "Nothing to be done" in call(project, "snakemake", "-n", "all")
    assert not web.asked
