"""Kills of real training at random moments, by either tool: every byte is as without kills."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECT = ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", "workflow", "profiles")
COMMANDS = (("snakemake", "--cores", "2", "stage_evaluate"), ("dvc", "repro", "evaluate"))
KILLS = 4
MOMENTS = 4.0, 16.0  # seconds: Snakemake needs 2 to begin, torch 3 more to load


def start(folder: Path, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Begin a command in a process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "printed.log").open("ab") as printed:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(folder: Path, *command: str) -> None:
    assert start(folder, command).wait() == 0, (folder / "printed.log").read_text()[-3000:]


def build(folder: Path) -> Path:
    """Return a project with one small victim, its detector and its repairs, and no results."""
    (folder / "data").mkdir(parents=True)
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"]["settings"] = {
        "scenes": {"train": 800, "trusted": 100, "val": 100, "test": 200}
    }
    params["poison"] |= {"methods": ["badnet"], "settings": {"badnet": {"poison_rate": 0.05}}}
    params["pretrain"] |= {
        "methods": ["mmcl"],
        "settings": {"mmcl": {"epochs": 4, "early_epoch": 2}},
    }
    params["detect"]["methods"] = ["ubt"]
    params["unlearn"] = {"methods": ["ubt"], "settings": {"ubt": {"pairs": 32, "epochs": 3}}}
    params["baselines"] |= {"methods": ["ft"], "settings": {"ft": {"epochs": 3}}}
    params["evaluate"]["adversarial"] = {"images": 50, "steps": 5, "epsilons": [2]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for command in (("git", "init", "-q"), ("dvc", "init", "-q")):
        finish(folder, *command)
    return folder


def results(folder: Path) -> dict[str, bytes]:
    files = (path for path in (folder / "results").rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name != ".gitignore"}


def test_after_random_kills_a_run_ends_with_the_bytes_of_a_calm_one(tmp_path: Path) -> None:
    killed, moments, running = build(tmp_path / "killed"), random.Random(0), 0
    for number in range(KILLS):
        process = start(killed, COMMANDS[number % len(COMMANDS)])
        time.sleep(moments.uniform(*MOMENTS))
        if process.poll() is None:
            running += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if any((killed / "results").rglob("card.json")):
            finish(killed, "clipmend", "verify")  # every file is what its card says
    assert running > 0
    calm = build(tmp_path / "calm")
    for folder in (killed, calm):
        finish(folder, *COMMANDS[0])
    assert results(killed) == results(calm)
