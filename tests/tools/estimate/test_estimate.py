"""`clipmend estimate`: hours come from measured jobs, and an unmeasured job is called unknown."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import cards, params, store
from clipmend.engine.index import UNREAD, Glance, Index
from clipmend.engine.runner import CPU_SECONDS, RESTORED, UP_TO_DATE
from clipmend.methods.table import METHODS, STAGES, base
from clipmend.tools.estimate import costs
from clipmend.tools.estimate.costs import START, Measurements, Timing, job_seconds, reference
from clipmend.tools.estimate.forecast import Estimate, Stage, Survey, estimate, survey

PRESETS = Path(__file__).parents[3] / "params"
DEFAULT = PRESETS / "default.yaml"
CORPUS, POISON = "download/scenes", "poison/scenes/badnet/seed0"
VICTIM = "pretrain/scenes/badnet/mmcl/seed0"
FT = Timing("baselines", "ft", "mmcl", "small", 32, epochs=10.0, pairs=100, seconds=START + 10)


def seen(preset: str = "default") -> Survey:
    return survey(params.load(PRESETS / f"{preset}.yaml"))


def cost(preset: str = "default", machine: str | None = "cpu") -> Estimate:
    return estimate(params.load(PRESETS / f"{preset}.yaml"), machine)


def stage(found: Estimate, name: str) -> Stage:
    return next(row for row in found.stages if row.name == name)


def timed(cell: str, seconds: float) -> None:
    path = Path("logs/benchmark") / f"{cell}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\n{seconds}\t0\n")


def test_the_time_after_the_start_is_scaled_by_epochs_and_pairs() -> None:
    measured = Measurements([FT, replace(FT, seconds=START + 20)])
    assert measured.seconds(FT) == START + 15  # the median
    assert measured.seconds(replace(FT, epochs=20.0, pairs=300)) == START + 6 * 15
    assert Measurements([replace(FT, seconds=2.0)]).seconds(replace(FT, epochs=99.0)) == 2.0


def test_a_variant_takes_the_time_of_its_method_and_another_objective_will_do() -> None:
    measured = Measurements([FT])
    assert measured.seconds(replace(FT, method="ft@long", objective="siglip")) == FT.seconds


@pytest.mark.parametrize(
    "change", [{"method": "par"}, {"model": "large"}, {"image_size": 224}, {"pairs": 0}]
)
def test_a_job_that_no_measured_job_resembles_is_unknown(change: dict[str, Any]) -> None:
    assert Measurements([FT]).seconds(replace(FT, **change)) is None


def test_a_model_takes_the_same_disk_whatever_its_pairs_and_a_corpus_does_not() -> None:
    corpus = Timing("download", "scenes", "", "", 32, 1.0, pairs=100, seconds=1.0, bytes=1000)
    measured = Measurements([replace(FT, bytes=500), corpus])
    assert measured.bytes(replace(FT, pairs=9000)) == 500
    assert measured.bytes(replace(corpus, pairs=300)) == 3000


def test_every_reference_time_names_a_known_method_and_its_origin() -> None:
    assert {row.machine for row in reference()} == {"cpu", "h200"}
    repairs = METHODS["unlearn"] | METHODS["baselines"]
    for row in reference():
        methods = repairs if row.stage in ("unlearn", "baselines") else METHODS.get(row.stage)
        assert methods is None or base(row.method) in methods
        assert row.seconds > 0
        assert row.bytes > 0
        assert len(row.origin) > 20


def test_writing_the_reference_replaces_the_kinds_that_a_run_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "times.csv"
    before = reference()
    measured = [replace(FT, seconds=seconds, bytes=7) for seconds in (30.0, 20.0, 90.0)]
    assert costs.write_reference(path, measured, "cpu", "a run") == 1
    monkeypatch.setattr(costs, "files", lambda _: tmp_path)
    monkeypatch.setattr(costs, "PACKAGE_DATA", ("times.csv",))
    (new,) = (row for row in reference() if row not in before)
    assert new == replace(FT, seconds=30.0, bytes=7, machine="cpu", origin="a run")
    assert len(reference()) == len(before) + 1


def test_what_is_made_or_stored_costs_nothing_more(make: Any) -> None:
    cells = make([CORPUS, POISON, VICTIM])
    assert [name for name, state in seen().states.items() if state == "made"] == [
        *(CORPUS, POISON, VICTIM)
    ]
    waiting = store.STORE / cells[VICTIM].key
    waiting.parent.mkdir(parents=True)
    (store.RESULTS / VICTIM).rename(waiting)
    assert seen().states[VICTIM] == "stored"
    row = stage(cost(), "pretrain")
    assert (row.remaining, row.total) == (5, 6)
    assert row.hours_left < row.hours_total


def test_a_cell_with_a_file_of_another_size_is_not_made_and_neither_are_its_readers(
    make: Any,
) -> None:
    make([CORPUS, POISON, VICTIM])
    (store.RESULTS / POISON / "made.txt").write_text("something else")
    assert [name for name, state in seen().states.items() if state == "made"] == [CORPUS]


def test_jobs_that_were_timed_here_come_before_the_reference(make: Any) -> None:
    make([CORPUS, POISON, VICTIM])
    timed(VICTIM, 720.0)
    row = stage(cost(machine=None), "pretrain")
    assert row.basis == {"measured": 1, "like jobs": 2, "reference": 3}
    assert row.hours_total > 0.6  # three victims of mmcl at 0.2 hours
    assert row.hours_total - row.hours_left == pytest.approx(0.2)
    assert row.bytes_total - row.bytes_left == 4
    assert "measured" not in stage(cost(), "pretrain").basis  # asked of another machine


def test_a_job_that_was_timed_under_other_settings_is_scaled(make: Any) -> None:
    make([CORPUS, POISON, VICTIM])
    timed(VICTIM, START + 100)
    card = cards.read(store.RESULTS / VICTIM)
    assert card is not None
    card["settings"]["epochs"] *= 2  # as it was when it was timed
    card["key"] = "0" * 64
    cards.write(store.RESULTS / VICTIM, card)
    row = stage(cost(machine=None), "pretrain")
    assert row.basis["like jobs"] == 3
    hours = [job.seconds for job in seen().jobs({VICTIM: START + 100}, [])]
    assert START + 50 in hours


@pytest.mark.parametrize("text", [RESTORED, UP_TO_DATE])
def test_a_job_that_made_nothing_has_no_time(tmp_path: Path, text: str) -> None:
    tsv, log = tmp_path / "ft.tsv", tmp_path / "ft.log"
    assert job_seconds(tsv, log) is None
    tsv.write_text("s\th:m:s\n12.5\t0:00:12\n")
    assert job_seconds(tsv, log) == 12.5
    log.write_text(f"baselines: epoch 1/1\nbaselines: {CPU_SECONDS} 8.5\n")
    assert job_seconds(tsv, log) == 8.5
    log.write_text(f"baselines: {text}\n")
    assert job_seconds(tsv, log) is None


@pytest.mark.parametrize(
    "text", ["", "s\th:m:s\n", "s\nNA\n", "s\nnan\n", "h:m:s\n0:00:12\n", "\0"]
)
def test_a_benchmark_without_a_number_is_no_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "ft.tsv").write_text(text)
    assert job_seconds(tmp_path / "ft.tsv", tmp_path / "ft.log") is None


def test_a_job_without_an_epoch_gives_the_time_of_its_like_alone() -> None:
    measured = Measurements([replace(FT, epochs=0.0)])
    assert measured.seconds(FT) is None
    assert measured.seconds(replace(FT, epochs=0.0)) == FT.seconds


def test_jobs_of_a_corpus_whose_pairs_only_its_files_know_are_unknown(folder: Path) -> None:
    photos = cost("photos_files")
    assert stage(photos, "pretrain").basis == {"unknown": 2}
    assert stage(photos, "pretrain").hours_total == 0
    assert photos.unknown["pretrain"] == ("mmcl", "mmcl_ssl")
    assert photos.missing == ("data/photos",)
    (folder / "data/photos").mkdir(parents=True)
    (folder / "data/photos/a.parquet").write_text("not parquet")
    assert stage(cost("photos_files"), "pretrain").basis == {"unknown": 2}


@pytest.mark.usefixtures("folder")
def test_photographs_are_a_download_of_their_archive() -> None:
    assert cost("photos").download == (170_498_071, 170_498_071)


@pytest.mark.usefixtures("folder")
def test_a_source_without_the_usual_settings_is_unknown_and_no_error() -> None:
    found = seen()
    bare = {name: replace(cell, settings={}) for name, cell in found.cells.items()}
    jobs = replace(found, cells=bare, corpora={}).jobs({}, reference())
    assert {job.basis for job in jobs if job.work.stage != "report"} == {"unknown"}


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
    ("words", "line"),
    [
        ([], "params.yaml does not exist in this folder. `clipmend preset default` writes"),
        (["--params", str(PRESETS)], f"{PRESETS} cannot be read: Is a directory."),
        (["--params", "no.yaml"], "no.yaml does not exist in this folder. "),
        (["--params", str(DEFAULT), "--machine", "h1000"], "Unknown machine 'h1000'. "),
    ],
)
def test_a_mistake_is_one_line(folder: Path, clipmend: Any, words: list[str], line: str) -> None:
    _, message = clipmend("estimate", *words, status=2)
    assert message.startswith(f"clipmend: {line}")
    assert message.count("\n") == 1
    assert not list(folder.iterdir())


def test_it_imports_nothing_heavy_and_writes_nothing(folder: Path) -> None:
    code = (
        "import sys; from clipmend import cli\n"
        f"sys.argv = ['clipmend', 'estimate', '--json', '--params', {str(DEFAULT)!r}]"
        "\ntry: cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'open_clip', 'snakemake', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    document, _, heavy = done.stdout.rstrip().rpartition("\n")
    assert heavy == "[]"
    found = json.loads(document)
    assert [row["name"] for row in found["stages"]] == list(STAGES)
    assert found["states"] == {"remaining": sum(row["total"] for row in found["stages"])}
    for row in found["stages"]:
        assert sum(row["basis"].values()) == row["total"]
    assert not list(folder.iterdir())


def test_the_times_of_a_run_can_become_the_reference(make: Any, clipmend: Any) -> None:
    make([CORPUS])
    timed(CORPUS, 100.0)
    out, _ = clipmend("estimate", "--params", DEFAULT, "--reference", "times.csv")
    assert out == "1 kinds of jobs of this run are in times.csv.\n"
    assert "download,scenes,,,32,1.0,21000,100.0,4,cpu,run of " in Path("times.csv").read_text()


@pytest.mark.usefixtures("folder")
def test_the_table_names_every_stage_and_the_sum(clipmend: Any) -> None:
    out, _ = clipmend("estimate", "--params", DEFAULT)
    assert "121 of 121 jobs remain" in out
    for name in (*STAGES, "hours left", "basis", "all, core-hours", "reference"):
        assert name in out
