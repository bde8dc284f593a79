"""A shell in an empty folder, and pairs of somebody who knows no poison."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend import cli
from clipmend.data.pairs import read_pairs
from clipmend.engine.job import Input


@dataclass(frozen=True)
class Shell:
    """Runs commands in this process, in a folder of its own."""

    folder: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def run(self, *words: object, status: int = 0) -> tuple[str, str]:
        """Run a command that has to end with ``status``; return what it printed and logged."""
        self.capture.readouterr()
        with self.patch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr("sys.argv", ["clipmend", *map(str, words)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
        said = self.capture.readouterr()
        assert stop.value.code == status, said.err
        return said.out, said.err


@pytest.fixture
def shell(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shell]:
    return Shell(tmp_path_factory.mktemp("shell"), monkeypatch, capsys)


@pytest.fixture(scope="session")
def pairs(corpus: Input, poison: Input, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world's poisoned training pairs, without labels or marks."""
    changed = {row["id"]: row for row in read_pairs(poison.folder / "overlay.parquet").to_pylist()}
    rows = read_pairs(corpus.folder / "train.parquet").to_pylist()
    rows = [changed.get(row["id"], row) for row in rows]
    path = tmp_path_factory.mktemp("own") / "pairs.parquet"
    columns = ("id", "image", "caption")
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), path)
    return path
