"""Damaged and odd inputs by hundreds, through the commands: no traceback, and no row lost."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from matplotlib.figure import Figure

from clipmend import cli
from clipmend.data.pairs import SPLITS
from clipmend.engine import plan, presets
from clipmend.errors import ClipmendError
from clipmend.model import arithmetic
from clipmend.model.clip import build
from clipmend.stages import report
from clipmend.tools import preset
from clipmend.tools.standalone import run
from tests.engine.made import make_missing
from tests.engine.own_locks import own_locks
from tests.tools import odd_models
from tests.tools.odd_inputs import COUNT, Tools, Trial, draw_trial
from tests.tools.odd_pairs import plain, write_parquet

ROOT = Path(__file__).parents[2]
STEP = 1 if "CLIPMEND_FAULTS" in os.environ else 8  # `make faults` runs all of them
pytestmark = [
    pytest.mark.slow,
    # Pillow, torch and matplotlib warn of odd inputs, which a user may read.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """A tiny model, good pairs, and a project of stubs; they all stay as they are."""
    folder: Path = tmp_path_factory.mktemp("odd")
    (folder / "model").mkdir()
    config = folder / "tiny.json"
    config.write_text(json.dumps(odd_models.TINY))
    build(str(config), seed=0).save(folder / "model")
    write_parquet(folder / "good.parquet", [plain(number) for number in range(80)])
    (folder / "project").mkdir()
    with own_locks(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "project")
        preset.write("smoke", Path("params.yaml"))
        make_missing(plan.arrange())
    project = folder / "project"
    yield Tools(folder / "model", folder / "good.parquet", project, ROOT / "results" / "report")


@pytest.fixture
def began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Enter an empty folder; the list tells whether the scoring of pairs began."""
    began: list[str] = []
    inspect = run.inspect

    def inspected(*arguments: Any) -> Any:
        began.append("scoring")
        return inspect(*arguments)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(run, "inspect", inspected)
    # A sheet takes longer than everything else, and has tests of its own.
    monkeypatch.setattr(run, "draw", lambda *_, **__: Figure(figsize=(1, 1)))
    monkeypatch.setattr(report, "plot_figures", lambda *_, **__: [])
    for name in ("prepare", "start"):  # numpy and torch are loaded already
        monkeypatch.setattr(arithmetic, name, lambda *_: None)
    with own_locks():
        yield began


Capture = pytest.CaptureFixture[str]


def command(words: list[str], capsys: Capture) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    capsys.readouterr()
    sys.argv = ["clipmend", *words]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out + printed.err


def corpus(source: dict[str, Any]) -> str | None:
    """Plan a run with a corpus, as the Snakefile does; return the message of a refusal."""
    values = presets.values(presets.preset("smoke"))
    values["download"] = {"corpora": ["mine"], "settings": {"mine": source}}
    values["poison"] |= {"target": "ship", "methods": ["unpoisoned"], "settings": {}}
    for stage in ("detect", "unlearn", "baselines"):
        values[stage] = {"methods": [], "settings": {}}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    try:
        plan.arrange()
    except ClipmendError as error:
        return f"clipmend: {error}\n"
    return None


def names() -> set[str]:
    """Return the files below the working folder, those of the engine aside."""
    paths = (path for path in Path().rglob("*") if path.is_file())
    return {str(path) for path in paths if ".clipmend" not in path.parts}


@pytest.mark.parametrize("number", range(0, COUNT, STEP))
def test_it_is_refused_in_one_line_or_every_usable_row_is_kept(
    number: int,
    tools: Tools,
    began: list[str],
    capsys: Capture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trial = draw_trial(number, tools)
    before = names()
    refusal = None if trial.source is None else corpus(trial.source)
    code, printed = 2, refusal or ""
    if refusal is None:
        code, printed = command(trial.words, capsys)
    told = f"{trial.name}\n{printed[-3000:]}"
    assert code in trial.codes, told
    assert "Traceback" not in printed, told
    assert not Path("executed").exists(), told
    if trial.refused is not None:
        assert (code == 2) is trial.refused, told
    if code == 2:
        lines = [line for line in printed.splitlines() if line.startswith("clipmend: ")]
        assert len(lines) == 1 or "Usage: clipmend" in printed, told
        assert not began, told
        assert not names() - before - {"params.yaml"}, told
    elif trial.usable is not None:
        assert rows(trial, caplog.messages) == trial.usable, told
        if trial.bad is not None:
            assert ledger(trial) == trial.bad, told


def rows(trial: Trial, messages: list[str]) -> int:
    """Return how many pairs a command has read."""
    if trial.source is not None:
        made = Path("results/download/mine")
        return sum(pq.read_metadata(made / f"{split}.parquet").num_rows for split in SPLITS)
    if trial.words[0] == "suspects":
        return int(pq.read_metadata("out/suspects.parquet").num_rows)
    (count,) = (line for line in messages if line.endswith(" pairs"))
    return int(count.split()[-2])


def ledger(trial: Trial) -> set[int]:
    """Return the numbers of the rows that were left out, across the files."""
    folder = Path("out") if trial.source is None else Path("results/download/mine")
    if not (folder / "bad_rows.json").exists():
        return set()
    found = json.loads((folder / "bad_rows.json").read_text())
    assert found["left_out"] == len(found["bad_rows"])
    first = {"a": 0, "b": 30}  # the rows of the two files
    numbers = [row["row"] + first.get(Path(row["file"]).stem, 0) for row in found["bad_rows"]]
    assert len(set(numbers)) == len(numbers)
    return set(numbers)
