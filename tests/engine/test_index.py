"""A hash is computed once, and again when the bytes may have changed."""

import os
from pathlib import Path

import pytest

from clipmend.engine.index import Index


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def unreadable(self: Path, mode: str) -> None:
    raise AssertionError(f"{self} was opened again ({mode})")


def test_bytes_are_read_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(tmp_path / "index.json")
    digest = index.sha256(file)
    index.save()
    saved = Index(tmp_path / "index.json")
    monkeypatch.setattr(Path, "open", unreadable)
    assert saved.sha256(file) == digest


def test_other_bytes_of_the_same_size_and_mtime_have_another_hash(
    file: Path, tmp_path: Path
) -> None:
    index = Index(tmp_path / "index.json")
    times = file.stat()
    digest = index.sha256(file)
    file.write_text("new")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert index.sha256(file) != digest


def test_an_incomplete_index_is_read_as_empty(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"a": [1')
    assert Index(tmp_path / "index.json").entries == {}


def test_the_hash_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.json")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = index.tree(folder)
    (folder / "a").rename(folder / "b")
    renamed = index.tree(folder)
    (folder / "b").write_text("2")
    assert len({first, renamed, index.tree(folder)}) == 3
