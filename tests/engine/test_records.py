"""Records below ``.clipmend`` in any state are made again, and nothing ends in a traceback."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmend.engine import locks, plan, runner, store
from clipmend.engine.index import INDEX, Index
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


def test_a_link_to_its_own_folder_is_not_followed_for_ever(tmp_path) -> None:
    folder = tmp_path / "data"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    (folder / "a/file").write_text("x")
    index = Index(tmp_path / "none")
    plain = index.tree(folder)
    for name, target in {
        "here": folder,
        "a/up": folder / "a",
        "a/b": folder / "b",
        "b/a": folder / "a",
        "gone": tmp_path / "nothing",
        "self": folder / "self",
    }.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    linked = index.tree(folder)
    assert linked != plain
    (folder / "a/file").write_text("y")
    assert index.tree(folder) != linked
