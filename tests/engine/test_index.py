"""A hash is computed once, and again when the bytes may have changed."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from clipmend.engine.index import Index


@pytest.fixture
def index(tmp_path: Path) -> Index:
    (tmp_path / "file").write_text("old")
    return Index(tmp_path / "index.json")


def test_bytes_are_read_once(index, tmp_path, monkeypatch) -> None:
    digest = index.sha256(tmp_path / "file")
    index.save()
    saved = Index(tmp_path / "index.json")
    monkeypatch.setattr(Path, "open", Mock(side_effect=AssertionError("opened again")))
    assert saved.sha256(tmp_path / "file") == digest


def test_other_bytes_of_the_same_size_and_mtime_have_another_hash(index, tmp_path) -> None:
    file = tmp_path / "file"
    times, digest = file.stat(), index.sha256(file)
    file.write_text("new")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert index.sha256(file) != digest


def test_an_incomplete_index_is_read_as_empty(tmp_path) -> None:
    (tmp_path / "index.json").write_text('{"a": [1')
    assert Index(tmp_path / "index.json").entries == {}


def test_the_hash_of_a_folder_covers_names_and_contents(index, tmp_path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    hashes = set()
    for name, text in (("a", "1"), ("b", "1"), ("b", "2")):
        for path in folder.iterdir():
            path.unlink()
        (folder / name).write_text(text)
        hashes.add(index.tree(folder))
    assert len(hashes) == 3
