"""Records below ``.clipmend`` in any state are made again, and nothing ends in a traceback."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmend.engine import locks, plan, runner, store
from clipmend.engine.index import INDEX, Glance, Index
from clipmend.errors import PairsError
from clipmend.tools import status
from tests.engine.made import FT, contents, make_missing

TEXTS = [b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}', b'{"1:2": []}']
ENTRIES = [[1, 2, 3, None], [1, 2, 3, 4], [None], {"a": 1}, "text", [[], [], [], "0" * 64]]


def be_folder(path: Path) -> None:
    if path.is_file():
        path.unlink()
    (path / "inside").mkdir(parents=True, exist_ok=True)


def be_file(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")


def be_pipe(path: Path) -> None:
    """Put a pipe in the place of a file or a folder: who opens it waits for ever."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def index_of(entry: object) -> bytes:
    known = json.loads(INDEX.read_bytes())
    return json.dumps(dict.fromkeys(known, entry)).encode()


HARM: dict[str, Callable[[], object]] = {
    **{f"index {text[:9]!r}": lambda text=text: write(INDEX, text) for text in TEXTS},
    **{f"entry {entry}": lambda entry=entry: write(INDEX, index_of(entry)) for entry in ENTRIES},
    "index folder": lambda: be_folder(INDEX),
    "index.new folder": lambda: be_folder(INDEX.with_suffix(".new")),
    **{f"plan {text[:9]!r}": lambda text=text: write(plan.PLAN, text) for text in TEXTS},
    "plan folder": lambda: be_folder(plan.PLAN),
    "plan.new folder": lambda: be_folder(plan.PLAN.with_suffix(".new")),
    "locks file": lambda: be_file(locks.LOCKS),
    "cells file": lambda: be_file(locks.LOCKS / "cells"),
    "lock folder": lambda: be_folder(locks.LOCKS / "cells" / FT.replace("/", "%")),
    "lock binary": lambda: write(locks.LOCKS / "main", b"\xff\x00"),
    "store file": lambda: be_file(store.STORE),
    "stored file": lambda: [be_file(path) for path in store.STORE.glob("*")],
    "stored strangers": lambda: [be_folder(store.STORE / name) for name in ("x", ".y", "Z" * 200)],
    "damaged file": lambda: be_file(store.DAMAGED),
    **{
        f"pipe {path}": lambda path=path: be_pipe(path)
        for path in (
            *(INDEX, INDEX.with_suffix(".new"), plan.PLAN, plan.PLAN.with_suffix(".new")),
            *(locks.LOCKS, locks.LOCKS / "cells", locks.LOCKS / "cells" / FT.replace("/", "%")),
            *(store.STORE, store.DAMAGED, runner.WORK),
        )
    },
    "pipes in the store": lambda: [be_pipe(path) for path in store.STORE.glob("*")],
    "pipes of stored files": lambda: [be_pipe(path) for path in store.STORE.glob("*/output.txt")],
    "work file": lambda: be_file(runner.WORK),
    "all gone": lambda: shutil.rmtree(".clipmend"),
}


@pytest.mark.parametrize("record", sorted({name.split()[0] for name in HARM}))
def test_a_run_and_every_command_go_on(results, write_params, record) -> None:
    for harm in (harm for name, harm in HARM.items() if name.startswith(record)):
        plan.arrange()
        harm()
        status.describe()
        assert status.damaged() == []
        assert make_missing(plan.arrange()) == []
        assert contents() == results
        harm()
        write_params(baselines={"methods": []})  # cells are archived
        plan.arrange()
        with locks.cell(FT) as lock:
            assert not locks.is_free(FT)
            locks.check(FT, lock)
        write_params()
        make_missing(plan.arrange())
        assert contents() == results
        status.prune(0.0)
        assert contents() == results


@pytest.mark.parametrize(
    ("name", "target", "why"),
    [
        ("here", ".", "is a link to a folder that holds it"),
        ("a/up", "../a", "is a link to a folder that holds it"),
        ("b/around", "../a", "is a link to a folder that holds it"),
        ("gone", "nothing", "is a link to nothing, which does not exist"),
        ("self", "self", "is a link to self, which does not exist"),
        ("pipe", None, "is not a file with content, but a pipe"),
        ("device", "/dev/zero", "is not a file with content, but a pipe"),
    ],
)
def test_a_link_that_leads_nowhere_or_back_is_one_line_and_not_followed_for_ever(
    tmp_path, name, target, why
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a/file").write_text("x")
    (tmp_path / "a/b").symlink_to("../b")
    for index in (Index(tmp_path / "none"), Glance(tmp_path / "none")):
        assert index.tree(tmp_path) == index.tree(tmp_path)
    if target is None:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to(target)
    for index in (Index(tmp_path / "none"), Glance(tmp_path / "none")):
        with pytest.raises(PairsError, match=why):
            index.tree(tmp_path)


def test_links_that_multiply_paths_are_one_line(tmp_path) -> None:
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
    (tmp_path / "29/file").write_text("x")
    for number in range(29):
        for name in "ab":
            (tmp_path / f"{number}" / name).symlink_to(f"../{number + 1}")
    with pytest.raises(PairsError, match=r"^More than 100 paths lead by links to "):
        Index(tmp_path / "none").tree(tmp_path)
