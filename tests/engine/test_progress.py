"""A killed job is resumed from bytes that it wrote itself, and begun anew from any other."""

import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from clipmend.engine import plan, progress, runner, store
from clipmend.engine.cell import RESULTS
from clipmend.model import arithmetic
from clipmend.stages import pretrain
from tests.engine.made import contents
from tests.engine.own_locks import own_locks

VICTIM = "pretrain/scenes/badnet/mmcl/seed0"
PARAMS: dict[str, Any] = {
    "seeds": [0],
    "device": "cpu",
    "arithmetic": "fastest",  # portable needs a process of its own
    "download": {
        "corpora": ["scenes"],
        "settings": {"scenes": {"train": 128, "trusted": 16, "val": 32, "test": 32}},
    },
    "poison": {
        "target": "banana",
        "target_captions": ["a photo of a {}"],
        "methods": ["badnet"],
        "settings": {"badnet": {"poison_rate": 0.1}},
    },
    "pretrain": {
        "model": "scene_resnet",
        "methods": ["mmcl"],
        "settings": {"mmcl": {"epochs": 2, "early_epoch": 1, "batch_size": 64}},
    },
    "detect": {"methods": []},
    "unlearn": {"methods": []},
    "baselines": {"methods": []},
    "evaluate": {"confidence": 0.95},
    "report": {"gallery": 6},
}


def other_weights(path: Path) -> None:
    weights = load_file(path)
    save_file({name: value + 1 for name, value in weights.items()}, path)


def other_state(path: Path) -> None:
    """Change the weights of a checkpoint, and end it with the right hash."""
    saved = torch.load(path, weights_only=True)
    saved["model"] = {name: value * 2 for name, value in saved["model"].items()}
    torch.save(saved, path)
    data = path.read_bytes()
    path.write_bytes(data + hashlib.sha256(data).digest())


def time_kept(harm: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a harm that leaves the time of the file as it was."""

    def kept(path: Path) -> None:
        before = path.stat()
        harm(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return kept


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, bytes]]]:
    """Return a project whose victim was killed at the end of training, and a calm run's files."""
    folder: Path = tmp_path_factory.mktemp("killed")
    with own_locks(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("prepare", "start"):  # numpy and torch are loaded already
            patch.setattr(arithmetic, name, lambda *_: None)
        Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
        names = [*plan.arrange().cells]
        for name in names[: names.index(VICTIM) + 1]:
            runner.run(name)
        calm = contents()
        shutil.rmtree(RESULTS / VICTIM)
        shutil.rmtree(store.STORE)
        with patch.context() as killer, pytest.raises(ZeroDivisionError):
            killer.setattr(pretrain, "write_curve", lambda *_: 1 / 0)
            runner.run(VICTIM)
        yield folder, calm


HARM: list[tuple[str, Callable[[Path], object], bool]] = [
    ("early.safetensors", Path.exists, True),
    ("early.safetensors", other_weights, False),
    ("early.safetensors", time_kept(other_weights), False),
    ("fit.pt", other_state, False),
    ("open_clip_config.json", lambda path: path.write_text("{}"), True),
    ("../written.txt", Path.unlink, False),
    ("../written.txt", lambda path: path.write_bytes(b"\xff" * 99), False),
]
"""The name of a leftover, what is done to it, and whether the job then resumes."""


@pytest.mark.slow
@pytest.mark.parametrize("case", HARM, ids=lambda case: case[0])
def test_a_victim_has_the_bytes_of_a_calm_run_whatever_its_killed_job_left(
    killed, tmp_path, monkeypatch, caplog, case
) -> None:
    (folder, calm), (name, harm, is_resumed) = killed, case
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for part in ("prepare", "start"):
        monkeypatch.setattr(arithmetic, part, lambda *_: None)
    (work,) = runner.WORK.glob("*/progress")
    harm(work / name)
    with own_locks(), caplog.at_level("INFO"):
        runner.run(VICTIM)
    assert contents() == calm
    assert ("resumes after epoch 2" in caplog.text) is is_resumed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a work folder beside which ``record`` is kept, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("progress/inner").mkdir(parents=True)
    return Path("progress")


RECORD = Path("record")


def finish(path: Path, text: str) -> None:
    """Write a file as stages do: under another name first."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def left(folder: Path) -> set[str]:
    progress.remove_foreign(folder, RECORD)
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_what_a_job_wrote_before_its_last_rename_is_kept_and_nothing_else(folder: Path) -> None:
    with progress.recorded(folder, RECORD):
        (folder / "beside").write_text("a")
        finish(folder / "inner/one", "1")
        finish(folder / "two", "2")
        (folder / "late").write_text("b")
    finish(folder / "outside", "3")
    assert left(folder) == {"beside", "one", "two"}
    with progress.recorded(folder, RECORD):
        finish(folder / "two", "4")
    (folder / "beside").write_text("c")
    assert left(folder) == {"one", "two"}


def test_a_kill_before_the_rename_leaves_both_files(folder: Path) -> None:
    with progress.recorded(folder, RECORD):
        finish(folder / "one", "1")
        fresh = folder / "one.new"
        fresh.write_text("2")
        recorder = progress._active[-1]
        recorder.note()  # as before the rename that the kill prevented
        with RECORD.open("a") as record:
            record.write("\nabc")  # of a line that the kill cut
    assert left(folder) == {"one", "one.new"}
    with progress.recorded(folder, RECORD):
        finish(folder / "one", "3")
    assert left(folder) == {"one"}


def test_unfinished_downloads_are_kept(folder: Path) -> None:
    for name in ("archive.partial", "inner/shard.incomplete", "archive"):
        (folder / name).write_text("1")
    assert left(folder) == {"archive.partial", "shard.incomplete"}


def test_processes_that_a_job_started_write_to_its_record(folder: Path) -> None:
    with progress.recorded(folder, RECORD):
        context = multiprocessing.get_context("fork")
        children = [
            context.Process(target=finish, args=(folder / f"inner/{number}", str(number)))
            for number in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
    assert left(folder) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_record_of_another_kind_is_none(folder: Path, kind: str) -> None:
    with progress.recorded(folder, RECORD):
        finish(folder / "one", "1")
    RECORD.rename("moved")
    {"folder": RECORD.mkdir, "link": lambda: RECORD.symlink_to("moved")}.get(
        kind, lambda: os.mkfifo(RECORD)
    )()
    assert left(folder) == set()
    assert not RECORD.exists()
    assert Path("moved").exists()
