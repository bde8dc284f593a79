"""A project folder whose methods are written by the test, and read without being imported."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipmend.engine import fingerprint, locks, plan, schema
from clipmend.methods.table import FOLDERS, METHODS, STAGES
from tests.engine.made import contents, make_missing

METHOD = """
from dataclasses import dataclass

from clipmend.methods.settings import Fraction


@dataclass(frozen=True)
class {cls}:
    rate: Fraction = 0.1
"""

PARAMS: dict[str, Any] = {
    "seeds": [0],
    "device": "cpu",
    "download": {"corpora": ["scenes"]},
    "poison": {
        "target": "banana",
        "target_captions": ["a {}"],
        "methods": ["unpoisoned", "badnet"],
    },
    "pretrain": {"model": "scene_resnet", "methods": ["mmcl"]},
    "detect": {"methods": ["ubt"]},
    "unlearn": {"methods": ["ubt"]},
    "baselines": {"methods": ["ft"]},
    "evaluate": {"confidence": 0.95},
    "report": {"gallery": 6},
}

HOLD = (
    "import sys; from clipmend.engine import locks; {}; print('held', flush=True); sys.stdin.read()"
)

Write = Callable[[str, str], None]
WriteParams = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of a package that stands in for ours: ``write("detect/ubt.py", text)``."""

    def write(name: str, text: str) -> None:
        path = tmp_path / "clipmend" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        schema.forget()

    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "clipmend")
    monkeypatch.chdir(tmp_path)
    yield write
    schema.forget()


@pytest.fixture
def holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], subprocess.Popen[str]]:
    """Return a function that starts a process, which holds a lock until its input ends."""
    monkeypatch.chdir(tmp_path)

    def holder(statement: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD.format(statement)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    return holder


@pytest.fixture
def write_params(write: Write) -> WriteParams:
    """Write ``params.yaml`` with some sections changed, beside stub sources of every method."""
    write("model/arithmetic.py", "")
    for stage in STAGES:
        write(f"stages/{stage}.py", "")
    for part in ("detect_inputs", "evaluate_further"):
        write(f"stages/parts/{part}.py", "")
    for stage, methods in METHODS.items():
        for name, method in methods.items():
            text = METHOD.format(cls=method.cls)
            if (stage, name) == ("unlearn", "ubt"):
                text += '    detector: DetectorName | None = "ubt"\n'
            write(f"methods/{FOLDERS[stage]}/{name}.py", text)

    def write_params(**sections: object) -> None:
        Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, **sections}, sort_keys=False))

    write_params()
    return write_params


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "hold_main", lambda: None)


@pytest.fixture
def results(write_params: WriteParams, unlocked: None) -> dict[str, bytes]:  # noqa: ARG001
    """Make and arrange every cell, and return the contents of ``results/``."""
    make_missing(plan.arrange())
    plan.arrange()
    return contents()
