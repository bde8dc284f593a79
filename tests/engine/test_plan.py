"""``results/`` holds what the parameters and code prove; all other cells are in the store."""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock

import pytest

from clipmend.engine import cards, locks, plan, runner, store
from clipmend.engine.cell import RESULTS, Cell
from clipmend.engine.index import Index
from clipmend.errors import PlanError
from clipmend.tools import status
from tests.engine.made import FT, contents, make_missing

pytestmark = pytest.mark.usefixtures("write_params", "unlocked")

OTHER_RATE = {"methods": ["ft"], "settings": {"ft": {"rate": 0.2}}}


def test_a_proven_cell_stays_and_has_the_mtime_of_the_plan(results) -> None:
    assert make_missing(plan.arrange()) == []
    assert contents() == results
    assert {(RESULTS / name).stat().st_mtime_ns for name in results} == {plan.PROVEN_MTIME}


def test_an_edit_empties_exactly_its_cells_and_they_come_back(results, write_params) -> None:
    write_params(baselines=OTHER_RATE)
    cells = [f"scenes/{attack}/mmcl/seed0/ft" for attack in ("badnet", "unpoisoned")]
    expected = {f"baselines/{cell}" for cell in cells} | {f"evaluate/{c}/badnet" for c in cells}
    assert set(make_missing(plan.arrange())) == expected | {"report"}
    write_params(baselines={"methods": []})
    plan.arrange()
    assert not [name for name in contents() if name.startswith("baselines/")]
    assert (RESULTS / "baselines").is_dir()
    write_params()
    assert make_missing(plan.arrange()) == []
    assert contents() == results


@pytest.mark.usefixtures("results")
def test_a_cell_is_not_proven_when_its_input_has_other_bytes_under_the_same_key() -> None:
    # As on a device that is not deterministic, where the same key can have other bytes.
    victim = "pretrain/scenes/badnet/mmcl/seed0"
    folder = RESULTS / victim
    card = json.loads((folder / cards.CARD).read_text())
    (folder / "output.txt").unlink()
    (folder / "output.txt").write_text("other")
    card["outputs"] = cards.outputs(folder, Index())
    cards.write(folder, card)
    missing = make_missing(plan.arrange())
    assert FT in missing
    assert not {victim, "pretrain/scenes/unpoisoned/mmcl/seed0"} & set(missing)


def test_the_folder_of_a_running_job_stays(results) -> None:
    (RESULTS / FT / cards.CARD).unlink()
    with locks.cell(FT):
        plan.arrange()
        assert (RESULTS / FT / "output.txt").exists()
    plan.arrange()
    assert contents() == results


@pytest.mark.parametrize("cache", [".dvc/cache", "shared"])
def test_the_links_of_dvc_are_proven_and_brought_back_as_files(results, tmp_path, cache) -> None:
    file = RESULTS / FT / "output.txt"
    cached = tmp_path / f"{cache}/files/md5/ab/{'0' * 30}"
    cached.parent.mkdir(parents=True)
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config").write_text(
        "" if cache == ".dvc/cache" else "[cache]\n    dir = ../shared\n"
    )
    cached.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(cached)
    assert make_missing(plan.arrange()) == []
    assert file.is_symlink()
    assert {file.stat().st_mtime_ns, file.lstat().st_mtime_ns} == {plan.PROVEN_MTIME}
    file.unlink()
    plan.arrange()
    assert contents() == results
    assert not file.is_symlink()


def test_a_damaged_cell_of_the_store_is_made_again(results) -> None:
    key = plan.entry(FT).cell.key
    with (store.STORE / key / "output.txt").open("a") as file:
        file.write("more")
    below = f"evaluate/{FT.removeprefix('baselines/')}/badnet"
    assert make_missing(plan.arrange()) == [FT, below, "report"]
    assert contents() == results


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"baselines": OTHER_RATE}, "setting rate: 0.1 -> 0.2"),
        ({"pretrain": {"model": "rn50_64", "methods": ["mmcl"]}}, "an input changed"),
        ({}, "code of clipmend.stages.baselines"),
    ],
)
def test_status_names_stale_cells_with_their_reason_and_changes_nothing(
    results, write, write_params, change, why
) -> None:
    write_params(**change)
    if not change:
        write("stages/baselines.py", "x = 1\n")
    assert f"{FT}: {why}" in status.describe()
    assert contents() == results


def test_a_method_outside_the_grid_that_does_not_parse_stops_nothing_and_is_named(
    results, write, write_params
) -> None:
    write("methods/detectors/lid.py", "def (")
    write_params(detect={"methods": ["ubt"], "settings": {"lid": {"rate": 0.2}}})
    plan.arrange()
    assert contents() == results
    lines = status.describe().splitlines()
    assert lines[0].startswith("detect method lid, not in this grid: Module clipmend.methods.det")
    assert lines[1:] == [f"0 of {len(plan.load().cells)} cells are stale."]
    write_params(detect={"methods": ["ubt", "lid"]})
    with pytest.raises(PlanError, match=r"detectors\.lid does not parse"):
        status.describe()


def test_a_cell_is_checked_after_its_inputs(monkeypatch) -> None:
    cells = {
        name: Cell(name, stage, "", 0, {}, {}, {}, {}, inputs)
        for name, stage, inputs in (
            ("evaluate/a", "evaluate", {"model": "pretrain/badnet/continued"}),
            ("pretrain/badnet/continued", "pretrain", {"start": "pretrain/unpoisoned/mmcl"}),
            ("pretrain/unpoisoned/mmcl", "pretrain", {"corpus": "download/scenes"}),
            ("download/scenes", "download", {}),
        )
    }
    checked: list[str] = []
    monkeypatch.setattr(plan, "fault", lambda cell, *_: checked.append(cell.name))
    assert plan.faults(dict(sorted(cells.items())), Index()) == {}
    assert checked == list(reversed(cells))


def test_prune_empties_the_store_and_keeps_results_and_needed_work(results) -> None:
    kept = next(iter(plan.load().cells.values())).key
    for key in (kept, "abandoned"):
        (runner.WORK / key / "progress").mkdir(parents=True)
    assert status.prune(days=1.0) == "Deleted 0 stored cells and 0 unfinished jobs."
    assert re.fullmatch(
        r"Deleted [1-9]\d* stored cells and 1 unfinished jobs.", status.prune(days=0.0)
    )
    assert [path.name for path in runner.WORK.iterdir()] == [kept]
    assert contents() == results


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("damage", [b"", b"not a database " * 9])
def test_a_damaged_plan_is_one_line_that_names_it(damage) -> None:
    plan.arrange()
    plan.PLAN.write_bytes(damage)
    with pytest.raises(PlanError, match=r"plan\.sqlite cannot be read \(.*`snakemake -n` makes it"):
        plan.entry(FT)


def test_a_cell_outside_the_plan_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match="has no plan yet"):
        runner.run(FT)
    assert not Path(".clipmend").exists()


def test_results_on_another_file_system_are_copied_once(results, monkeypatch, capsys) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == Path.cwd().stat().st_dev:
        pytest.skip("there is no second file system")
    with TemporaryDirectory(dir=other) as folder:
        shutil.move(RESULTS, folder)
        RESULTS.symlink_to(Path(folder, RESULTS.name))
        store._say_copied.cache_clear()
        shutil.rmtree(store.STORE)
        plan.arrange()
        assert "file systems without common links" in capsys.readouterr().err
        copied = Mock(side_effect=AssertionError("copied again"))
        monkeypatch.setattr(shutil, "copy2", copied)
        assert make_missing(plan.arrange()) == []
        assert contents() == results
