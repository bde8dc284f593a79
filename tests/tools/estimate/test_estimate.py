"""`clipmend estimate`: what remains, what it rests on, and mistakes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clipmend import cli
from clipmend.engine import cards, params, store
from clipmend.engine.index import UNREAD, Glance, Index
from clipmend.tools.estimate import forecast, machines, survey, terminal
from clipmend.tools.estimate.survey import Survey

PRESETS = Path(__file__).parents[3] / "params"

CORPUS, POISON = "download/scenes", "poison/scenes/badnet/seed0"
VICTIM = "pretrain/scenes/badnet/mmcl/seed0"
OTHER = "pretrain/scenes/unpoisoned/mmcl/seed0"


def seen(preset: str = "default") -> Survey:
    return survey.survey(params.load(PRESETS / f"{preset}.yaml"))


def estimated(found: Survey, machine: str = "cpu") -> dict[str, Any]:
    chosen = machines.machine_named(machine)
    return terminal.as_document(forecast.estimate(found, chosen, is_here=machine == "cpu"))


def timed(cell: str, seconds: float) -> None:
    path = Path("logs/benchmark") / f"{cell}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\n{seconds}\t0\n")


def stage(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["stages"] if one["name"] == name)


def test_what_is_made_or_stored_costs_nothing_more(make: Any) -> None:
    cells = make([CORPUS, POISON, VICTIM])
    found = seen()
    assert found.made == {CORPUS, POISON, VICTIM}
    assert len(found.remaining) == len(cells) - 3
    waiting = store.STORE / cells[VICTIM].key
    waiting.parent.mkdir(parents=True)
    (store.RESULTS / VICTIM).rename(waiting)
    found = seen()
    assert (found.made, found.stored) == ({CORPUS, POISON}, {VICTIM})
    assert VICTIM not in found.remaining


def test_a_cell_of_another_size_or_of_other_inputs_is_not_made(make: Any) -> None:
    make([CORPUS, POISON, VICTIM])
    (store.RESULTS / POISON / "made.txt").write_text("something else")
    assert seen().made == {CORPUS}


def test_hours_are_those_of_the_jobs_that_were_timed_here(make: Any) -> None:
    make([CORPUS, POISON, VICTIM])
    timed(VICTIM, 720.0)
    hours = stage(estimated(seen()), "pretrain")["hours"]
    assert hours["rest_on"] == {"measured": 1, "extrapolated": 5}
    # Three victims of mmcl at 0.2 h, of which two remain; those of mmcl_ssl at the shipped rate.
    others = stage(estimated(seen(), "a100"), "pretrain")["hours"]
    assert others["unknown"] == 6
    assert hours["whole"] - hours["remaining"] == pytest.approx(0.2)
    assert hours["whole"] > 0.6


def test_a_job_timed_under_other_settings_is_scaled_and_not_called_measured(make: Any) -> None:
    make([CORPUS, POISON, VICTIM])
    timed(VICTIM, 105.0)
    home = store.RESULTS / VICTIM
    card = cards.read(home)
    assert card is not None
    card["settings"]["epochs"] *= 2  # as it was when it was timed
    card["key"] = "another"
    cards.write(home, card)
    found = seen()
    assert set(found.changed) == {VICTIM}
    hours = stage(estimated(found), "pretrain")["hours"]
    assert "measured" not in hours["rest_on"]
    assert hours["unknown"] == 0


def test_disk_is_that_of_cells_like_those_that_are_there(make: Any) -> None:
    make([CORPUS, POISON, VICTIM])
    disk = stage(estimated(seen()), "pretrain")["disk"]
    assert disk["rest_on"] == {"measured": 1, "extrapolated": 5}
    assert disk["whole"] - disk["remaining"] == 4


def test_every_number_says_what_it_rests_on(folder: Path) -> None:
    assert folder == Path.cwd()
    for name in ("default", "full", "photos"):
        document = estimated(seen(name))
        for one in document["stages"]:
            for what in ("hours", "disk"):
                assert sum(one[what]["rest_on"].values()) + one[what]["unknown"] == one["jobs"]
                assert set(one[what]["rest_on"]) <= {"measured", "extrapolated", "assumed"}
        assert document["jobs"]["remaining"] == document["jobs"]["all"]
        assert document["basis"]


def test_a_corpus_that_only_its_files_know_leaves_jobs_without_a_figure(folder: Path) -> None:
    assert folder == Path.cwd()
    document = estimated(seen("photos"))
    assert stage(document, "pretrain")["hours"]["unknown"] == stage(document, "pretrain")["jobs"]
    assert document["missing"]


def test_every_shipped_rate_says_where_it_comes_from() -> None:
    for machine in machines.machines().values():
        assert machine.unit in ("core", "GPU")
        for rate in machine.rates.values():
            assert rate.per_second > 0
            assert rate.source in ("measured", "assumed")
            assert len(rate.origin) > 30


def test_another_size_than_was_measured_is_extrapolated_by_pixels() -> None:
    cpu = machines.machine_named("cpu")
    measured, larger = cpu.rate("scene_resnet", 32), cpu.rate("scene_resnet", 64)
    assert measured is not None
    assert larger is not None
    assert larger.per_second == pytest.approx(measured.per_second / 4)
    assert larger.source == "extrapolated"
    assert cpu.rate("no_such_model", 32) is None


def test_large_files_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = folder / "images" / "small", folder / "large"
    small.parent.mkdir()
    small.write_bytes(b"a" * 10)
    large.write_bytes(b"a" * 100)
    monkeypatch.setattr(Glance, "limit", 50)
    assert Glance().sha256(small) == Index().sha256(small)
    assert Glance().tree(small.parent) == Index().tree(small.parent)
    assert {Glance().sha256(large), Glance().tree(folder), Glance().sha256(folder / "no")} == {
        UNREAD
    }
    known = Index()
    known.sha256(large)
    known.save()
    assert Glance().sha256(large) == known.sha256(large)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "params.yaml does not exist in this folder. `clipmend preset default` writes"),
        (["--params", "no.yaml"], "no.yaml does not exist in this folder. "),
        (
            ["--params", str(PRESETS / "default.yaml"), "--machine", "h1000"],
            "Unknown machine profile 'h1000'. ",
        ),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["clipmend", "estimate", *given])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    told = capsys.readouterr().err
    assert told.startswith(f"clipmend: {said}")
    assert told.count("\n") == 1
    assert not list(folder.iterdir())


def test_it_imports_nothing_heavy_and_writes_nothing(folder: Path) -> None:
    code = (
        "import sys; from clipmend import cli\n"
        f"sys.argv = ['clipmend', 'estimate', '--json', '--params', {str(PRESETS / 'full.yaml')!r}]"
        "\ntry: cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'open_clip', 'snakemake', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    document, _, heavy = done.stdout.rstrip().rpartition("\n")
    assert heavy == "[]"
    assert json.loads(document)["jobs"]["all"] == 3080
    assert not list(folder.iterdir())


def test_the_table_names_every_stage_and_the_sum(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder == Path.cwd()
    preset = str(PRESETS / "default.yaml")
    monkeypatch.setattr("sys.argv", ["clipmend", "estimate", "--params", preset])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    told = capsys.readouterr().out
    assert "101 of 101 jobs are to be made" in told
    for name in ("download", "pretrain", "report", "all, core-hours", "extrapolated"):
        assert name in told
