"""A card, a link or a record that comes from outside reaches no file outside its cell."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import cards, locks, plan, runner, store
from clipmend.engine.cell import RESULTS
from clipmend.errors import ArtifactError
from clipmend.tools import status
from tests.engine.made import FT, contents, make_missing

UP = "../" * len(Path("results", FT).parts)
PATHS = [
    f"{UP}precious/file.txt",
    "/etc/hostname",
    "..",
    "a/../../output.txt",
    "./output.txt",
    "",
    "a//b",
    "a/",
    "card.json",
    "card.json/x",
    "a\0b",
    "a\nb",
    "x" * 300,
    "\ud800",
    "C:\\Windows\\x",
    "..\\x",
]


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """Return a file that no run may read, date, link, move or delete."""
    path = tmp_path / "precious/file.txt"
    path.parent.mkdir()
    path.write_text("mine")
    os.utime(path, ns=(5, 5))
    before = path.stat()
    yield path
    after = path.stat()
    assert path.read_text() == "mine"
    assert (after.st_mtime_ns, after.st_nlink) == (before.st_mtime_ns, 1)


def edit(change: Callable[[dict[str, Any]], object]) -> None:
    """Replace the card of a cell by a changed one."""
    path = RESULTS / FT / cards.CARD
    card = json.loads(path.read_bytes())
    change(card)
    path.unlink()
    cards.write(path.parent, card)


@pytest.mark.parametrize("name", PATHS)
def test_a_card_with_a_path_out_of_its_cell_is_read_as_none(name) -> None:
    written = {"sha256": "0" * 64, "size": 4}
    read = {"cell": "download/scenes", "key": "0" * 64, "outputs": {}}
    card = {"cell": FT, "key": "0" * 64, "inputs": {"corpus": read}, "outputs": {"a": written}}
    assert cards.parse(json.dumps(card)) == card
    for change in (
        {"outputs": {name: written}},
        {"inputs": {"corpus": read | {"outputs": {name: "0" * 64}}}},
        *([{"inputs": {"corpus": read | {"cell": name}}}] if "card" not in name else []),
        *([{"cell": name}] if "card" not in name else []),
    ):
        assert cards.parse(json.dumps(card | change)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        "{}",
        *(
            json.dumps({"cell": FT, "key": "0" * 64, "inputs": {}, "outputs": {}} | change)
            for change in (
                {"cell": 5},
                {"key": "../../x"},
                {"key": "A" * 64},
                {"inputs": []},
                {"inputs": {"a": None}},
                {"outputs": ["a"]},
                {"outputs": {"a": {"sha256": "0", "size": 1}}},
                {"outputs": {"a": {"sha256": "0" * 64, "size": "1"}}},
                {"outputs": {"a": {"sha256": "0" * 64, "size": -1}}},
                {"settings": 5},
                {"seed": "0"},
                {"code": {"a": 1}},
                {"environment": None},
                {"settings": {"rate": float("nan")}},
                {"shared": {"rate": [float("inf")]}},
            )
        ),
    ],
)
def test_a_card_of_another_shape_is_read_as_none(text) -> None:
    assert cards.parse(text) is None


@pytest.mark.usefixtures("results", "precious")
def test_a_card_that_names_a_file_outside_its_cell_leaves_that_file_alone(write_params) -> None:
    digest = {"sha256": cards.hashlib.sha256(b"mine").hexdigest(), "size": 4}
    edit(lambda card: card["outputs"].update({f"{UP}precious/file.txt": digest}))
    assert status.damaged()[0] == f"{FT}: card.json cannot be read"
    plan.arrange()
    assert status.damaged() == []
    edit(lambda card: card["outputs"].update({f"{UP}precious/file.txt": digest}))
    write_params(baselines={"methods": []})
    plan.arrange()


CONFIGS = [None, "", "[cache]\n    dir = ../elsewhere\n", "[cache", "\xff"]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_link_in_the_form_of_those_of_dvc_leads_to_a_cache_of_the_project_or_nowhere(
    results, precious, config
) -> None:
    at, target = RESULTS / FT / "output.txt", precious.parent / f"ab/{'0' * 30}"
    target.parent.mkdir()
    shutil.copy(at, target)  # the right bytes, so that only its place is wrong
    before = target.stat()
    at.unlink()
    at.symlink_to(target)
    if config is not None:
        Path(".dvc").mkdir()
        Path(".dvc/config").write_bytes(config.encode("latin-1"))
    assert status.damaged() == [f"{FT}: output.txt is a link out of its cell"]
    assert make_missing(plan.arrange()) == []
    assert contents() == results
    assert not at.is_symlink()
    assert (target.stat().st_mtime_ns, target.stat().st_nlink) == (before.st_mtime_ns, 1)


@pytest.mark.parametrize("kind", ["output", "card", "cell", "above", "stage", "stray", "nested"])
def test_a_link_out_of_a_cell_is_removed_and_what_it_names_is_left(
    results, precious, kind, write_params
) -> None:
    at = (
        RESULTS
        / {
            "output": f"{FT}/output.txt",
            "card": f"{FT}/card.json",
            "cell": FT,
            "above": str(Path(FT).parent),
            "stage": "baselines",
            "stray": f"{FT}/stray",
            "nested": f"{FT}/folder",
        }[kind]
    )
    target = precious.parent
    if kind in ("output", "card"):
        shutil.copy(at, precious.parent / "moved")  # the store has another link of it
        at.unlink()
        target /= "moved"
        os.utime(target, ns=(5, 5))
    elif at.exists():
        shutil.copytree(at, precious.parent / "folder")
        shutil.rmtree(at)
        target /= "folder"
    at.symlink_to(target)
    before = {path: path.lstat().st_mtime_ns for path in precious.parent.rglob("*")}
    assert status.damaged() != []
    write_params(evaluate={"confidence": 0.9})  # an edit further on, so that cells are archived
    plan.arrange()
    write_params()
    make_missing(plan.arrange())
    plan.arrange()
    assert contents() == results
    assert not at.is_symlink()
    assert {path: path.lstat().st_mtime_ns for path in precious.parent.rglob("*")} == before


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    "folder",
    [
        *("results", ".clipmend", ".clipmend/store", ".clipmend/damaged"),
        *("logs", ".snakemake", ".snakemake/log"),
    ],
)
def test_a_project_whose_own_folders_are_links_is_refused(folder, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "folder"
    Path(folder).parent.mkdir(exist_ok=True)
    Path(folder).rename(outside) if Path(folder).exists() else outside.mkdir()
    Path(folder).symlink_to(outside)
    (outside / "mine").write_text("mine")
    with pytest.raises(ArtifactError, match=f"^{folder} is a file or a link"):
        locks.check_folders()
    with pytest.raises(ArtifactError), locks.cell(FT):
        raise AssertionError
    with pytest.raises(ArtifactError):
        status.damaged()
    assert (outside / "mine").read_text() == "mine"


@pytest.fixture
def disk(results, tmp_path_factory) -> Path:  # noqa: ARG001
    """Move the results to another folder, to which ``results`` is a link."""
    disk: Path = tmp_path_factory.mktemp("outside") / "disk"
    RESULTS.rename(disk)
    RESULTS.symlink_to(disk)
    return disk


@pytest.mark.parametrize("is_empty", [True, False])
def test_results_may_be_a_link_to_a_folder_of_results_or_to_an_empty_one(
    results, disk, is_empty
) -> None:
    if is_empty:
        shutil.rmtree(disk)
        disk.mkdir()
    locks.check_folders()
    assert make_missing(plan.arrange()) == []
    assert contents() == results
    for name in (".gitignore", ".DS_Store"):  # of DVC and of a file manager
        (disk / name).touch()
    locks.check_folders()
    assert status.damaged() == []
    assert RESULTS.is_symlink()


DEVICE = stat.S_IFCHR | 0o600, os.makedev(1, 5)  # /dev/zero, which never ends
OTHERS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path: os.mknod(path, *DEVICE),
}


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_is_removed_from_results_on_another_disk(
    results, monkeypatch, kind
) -> None:
    def move(source: Path, target: Path) -> None:
        assert source.is_file(), source  # the rename fails there, and a copy would not end
        shutil.copy(source, target)
        source.unlink()

    monkeypatch.setattr(store.shutil, "move", move)
    for name in ("output.txt", "card.json", "more"):
        (RESULTS / FT / name).unlink(missing_ok=True)
        try:
            OTHERS[kind](RESULTS / FT / name)
        except PermissionError:
            pytest.skip("only an administrator makes devices")
    make_missing(plan.arrange())
    assert contents() == results


@pytest.mark.parametrize("stranger", ["mine", "report", "no folder", "loop"])
def test_results_as_a_link_to_anything_else_are_refused_and_nothing_is_touched(
    disk, stranger
) -> None:
    if stranger == "mine":
        (disk / "mine").mkdir()
    elif stranger == "report":  # a file with the name of a stage
        shutil.rmtree(disk / "report")
        (disk / "report").write_text("mine")
    elif stranger == "no folder":
        shutil.rmtree(disk)
    else:
        RESULTS.unlink()
        RESULTS.symlink_to(RESULTS.name)
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    why = "no folder" if stranger == "loop" else stranger
    for act in (locks.check_folders, status.damaged, lambda: locks.hold("x")):
        with pytest.raises(ArtifactError, match=rf"\(there is {why}\)") as refused:
            act()
        assert "\n" not in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before


@pytest.mark.usefixtures("results", "precious")
@pytest.mark.parametrize("lock", ["main", f"cells/{FT.replace('/', '%')}"])
def test_a_lock_that_is_a_link_signs_no_other_file(lock, precious, monkeypatch) -> None:
    monkeypatch.setattr(locks, "_held", {})
    path = locks.LOCKS / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    with locks.cell(FT):
        assert locks.hold(lock) is (lock == "main")
    for file in locks._held.values():
        file.close()


@pytest.mark.usefixtures("results", "precious")
def test_links_in_a_work_folder_are_removed_before_a_job_writes(precious) -> None:
    entry = plan.entry(FT)
    work = runner.WORK / entry.cell.key
    (work / "progress/task0").mkdir(parents=True)
    (work / "progress/task0/fit.half").symlink_to(precious)
    (work / "progress/task1").symlink_to(precious.parent)
    (work / "out").symlink_to(precious.parent)
    os.mkfifo(work / "progress/early.safetensors")  # whose reader would wait for ever
    job = runner._begin(entry)
    assert list(job.out.iterdir()) == []
    assert [path.name for path in job.work.rglob("*")] == ["task0"]
    store.place(job.out, RESULTS / FT)


@pytest.mark.usefixtures("results")
def test_links_and_pipes_below_the_logs_are_removed_before_a_job_writes_there(precious) -> None:
    Path("logs/benchmark").mkdir(parents=True)
    Path("logs/kept.log").write_text("kept")
    Path("logs/report.log").symlink_to(precious)
    Path("logs/baselines").symlink_to(precious.parent)
    os.mkfifo("logs/benchmark/report.tsv")
    plan.arrange()
    assert cards.names(Path("logs")) == ["kept.log"]
