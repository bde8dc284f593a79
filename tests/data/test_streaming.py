"""A split whose images stay in its file is read as the decoded one, in bounded memory."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pytest import MonkeyPatch
from torch import Tensor

from clipmend.data import decoders, row_groups, streaming, workers
from clipmend.data.pairs import read_pairs, table_of, write_pairs
from clipmend.data.row_groups import Encoded, Groups, Reader
from clipmend.data.splits import Pairs, load_split
from clipmend.data.streaming import (
    ChangedImages,
    EncodedImages,
    JoinedImages,
    change_images,
    join_images,
    stream_images,
    take_images,
)
from clipmend.engine.job import Input
from clipmend.errors import PairsError
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import build
from clipmend.model.fit import Schedule, Task, fit

COUNT = 600
FORWARD, SHUFFLED = torch.arange(COUNT), torch.randperm(COUNT, generator=torch.Generator())


@pytest.fixture(scope="module")
def folder(repeated: Any, write_corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a corpus of several groups of rows."""
    return write_corpus(tmp_path_factory.mktemp("groups"), repeated(COUNT))


@pytest.fixture
def overlay(poison: Input, tmp_path: Path) -> Path:
    columns = read_pairs(poison.folder / "overlay.parquet")[:3].to_pydict()
    columns["id"] = ["row-0", "row-128", "row-599"]
    extra = {"original_caption": ["before"] * 3, "is_poisoned": [True, False, True]}
    write_pairs(pa.table(columns | extra), tmp_path / "overlay.parquet")
    return tmp_path / "overlay.parquet"


@pytest.fixture
def decoded(folder: Path, overlay: Path) -> Pairs:
    """Return the split with decoded images."""
    pairs = load_split(folder, "train", overlay=overlay)
    assert isinstance(pairs.images, Tensor)
    return pairs


@pytest.fixture
def encoded(decoded: Pairs, folder: Path, overlay: Path, monkeypatch: MonkeyPatch) -> Pairs:  # noqa: ARG001
    """Return the split with images that stay in their file."""
    monkeypatch.setattr(streaming, "_DECODED", 0)
    pairs = load_split(folder, "train", overlay=overlay)
    assert isinstance(pairs.images, EncodedImages)
    return pairs


def workers_of(pairs: Pairs) -> list[Any]:
    assert isinstance(pairs.images, EncodedImages)
    return pairs.images._source.decoders()._workers


def processes_of(pairs: Pairs) -> list[int]:
    return [worker.process.pid for worker in workers_of(pairs)]


def is_gone(pid: int, *, within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_all_columns_but_the_images_are_equal(decoded: Pairs, encoded: Pairs) -> None:
    assert (encoded.ids, encoded.captions) == (decoded.ids, decoded.captions)
    assert torch.equal(encoded.label, decoded.label)
    assert torch.equal(encoded.is_poisoned, decoded.is_poisoned)
    assert encoded.images.shape == decoded.images.shape
    assert len(encoded.images) == len(decoded.images)


def change(images: Tensor, rows: row_groups.Rows) -> Tensor:
    return images + torch.from_numpy(rows % 7).to(torch.uint8)[:, None, None, None]


ROWS: list[slice | Tensor] = [slice(None), slice(120, 140), slice(-5, None), slice(0, 0)]
ROWS += [SHUFFLED, SHUFFLED[:1], FORWARD]
READS: dict[str, Callable[[Any], Tensor]] = {
    **{f"rows {n}": lambda images, rows=rows: images[rows] for n, rows in enumerate(ROWS)},
    **{
        f"blocks of {size}": lambda images, size=size: torch.cat(list(images.split(size)))
        for size in (100, COUNT, 2 * COUNT)
    },
    "blocks of 1": lambda images: torch.cat(list(take_images(images, FORWARD[:20]).split(1))),
    "rows of rows": lambda images: take_images(
        take_images(images, SHUFFLED[:200]), SHUFFLED[SHUFFLED < 200]
    )[:],
    "joined": lambda images: join_images([images, CLEAN[:7]])[:],
    "rows of joined": lambda images: join_images([images, CLEAN[:7]])[MORE],
    "joined, taken": lambda images: take_images(join_images([images, CLEAN[:7]]), MORE)[5:20],
    "changed": lambda images: change_images(images, change)[SHUFFLED],
    "blocks of changed": lambda images: torch.cat(list(change_images(images, change).split(90))),
    "changed, taken": lambda images: take_images(change_images(images, change), SHUFFLED)[3:50],
}
CLEAN = torch.randint(
    256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
MORE = torch.randperm(COUNT + 7, generator=torch.Generator())


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_encoded_images_are_read_as_the_decoded_ones(
    decoded: Pairs, encoded: Pairs, read: Callable[[Any], Tensor]
) -> None:
    assert torch.equal(read(encoded.images), read(decoded.images))


def test_joined_and_changed_images_stay_encoded(decoded: Pairs, encoded: Pairs) -> None:
    assert isinstance(join_images([encoded.images, decoded.images[:7]]), JoinedImages)
    assert isinstance(change_images(encoded.images, change), ChangedImages)
    blocks = [len(block) for block in encoded.images.split(100)]
    assert blocks == [len(block) for block in decoded.images.split(100)]


@pytest.mark.parametrize("ahead", [0, 100, 10_000])
def test_a_stream_has_the_order_of_its_rows_however_far_it_reads_ahead(
    decoded: Pairs, encoded: Pairs, ahead: int, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_AHEAD", ahead)
    parts = SHUFFLED.split(70)
    for rows, images in zip(parts, stream_images(encoded.images, parts), strict=True):
        assert torch.equal(images, decoded.images[rows])


def test_rows_can_be_read_during_and_after_a_stream(decoded: Pairs, encoded: Pairs) -> None:
    parts = stream_images(encoded.images, SHUFFLED.split(50))
    for rows in SHUFFLED.split(50)[:3]:
        assert torch.equal(next(parts), decoded.images[rows])
        assert torch.equal(encoded.images[FORWARD[200:300]], decoded.images[200:300])
    del parts
    assert torch.equal(encoded.images[:], decoded.images)


def test_a_small_selection_is_decoded(
    decoded: Pairs, encoded: Pairs, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_DECODED", 10 * 3 * 32**2)
    assert isinstance(encoded.take(SHUFFLED[:11]).images, EncodedImages)
    few = encoded.take(SHUFFLED[:10])
    assert isinstance(few.images, Tensor)
    assert few.ids == decoded.take(SHUFFLED[:10]).ids
    assert torch.equal(few.images, decoded.images[SHUFFLED[:10]])


def test_threads_share_the_processes(decoded: Pairs, encoded: Pairs) -> None:
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda rows: encoded.images[rows], SHUFFLED.split(20)))
    assert torch.equal(torch.cat(parts), decoded.images[SHUFFLED])


@pytest.mark.parametrize("cores", [1, 3, 40])
def test_encoded_and_decoded_images_train_the_same_bytes(
    decoded: Pairs, encoded: Pairs, cores: int, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "cores", lambda: cores)

    def trained(pairs: Pairs) -> dict[str, Tensor]:
        model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
        task = Task(pairs, multimodal, Schedule(1, batch_size=64, lr=1e-3))
        fit(model, task, torch.Generator().manual_seed(0))
        return model.full_state()

    state, expected = (trained(pairs.take(SHUFFLED[:320])) for pairs in (encoded, decoded))
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_memory_does_not_grow_with_the_pairs(encoded: Pairs, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_AHEAD", 100)
    monkeypatch.setattr(decoders, "cores", lambda: 1)

    def peak(pairs: Pairs) -> int:
        next(iter(pairs.images.split(16)))  # starts the processes
        tracemalloc.start()
        for _ in pairs.images.split(16):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few, many = peak(encoded.take(FORWARD[:300])), peak(encoded.take(FORWARD.repeat(8)))
    assert few < 300 * 3 * 32**2
    assert many < few + 200_000  # row numbers, 8 bytes a pair
    buffers = [worker.ring.shape for worker in workers_of(encoded)]
    assert sum(shape[0] * shape[1] for shape in buffers) <= 2 * max(100, 128 * len(buffers))


class CountedGroups(Groups):
    """Groups that count how often a group is read."""

    count = 0

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        self.count += 1
        return super().read(group, columns)


def reader_of(path: Path, budget: int = 2**30) -> Reader:
    ids = tuple(f"row-{row}" for row in range(COUNT))
    reader = Reader(Encoded(path, ids, {}, pa.chunked_array([[b""]])), budget)
    reader._groups = CountedGroups(path)
    return reader


@pytest.mark.parametrize(("budget", "kept"), [(2**30, 5), (1, 1)])
def test_a_shuffled_pass_keeps_groups_within_its_budget(
    folder: Path, budget: int, kept: int
) -> None:
    reader = reader_of(folder / "train.parquet", budget)
    for part in SHUFFLED.split(32):
        list(reader.images(part.numpy()))
    assert len(reader._kept) == kept
    assert reader._bytes == sum(group.nbytes for group in reader._kept.values())
    if kept == 5:  # 600 rows in groups of 128: each group is read at most twice
        assert reader._groups.count == 2 * 5


def test_a_group_that_is_read_once_displaces_none(folder: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_REMEMBERED", 2)
    reader = reader_of(folder / "train.parquet")
    for row in (0, 1, 130, 260, 390, 520, 131):  # only the first group is soon read again
        list(reader.images(torch.tensor([row]).numpy()))
    assert list(reader._kept) == [0]


def test_a_truncated_image_is_an_error_of_one_line_that_names_its_row(
    repeated: Any, write_corpus: Any, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_DECODED", 0)
    columns = repeated(COUNT).to_pydict()
    columns["image"][333] = columns["image"][333][:60]
    pairs = load_split(write_corpus(tmp_path, table_of(columns)), "train")
    pids = processes_of(pairs)
    with pytest.raises(
        PairsError, match=r"^Row 'row-333': Pillow cannot decode its image of 60 bytes [^\n]*$"
    ):
        list(pairs.images.split(100))
    assert all(map(is_gone, pids))
    assert len(pairs.images[FORWARD[:10]]) == 10  # other rows can still be read


def test_a_damaged_file_is_an_error_of_one_line_that_names_a_row(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "train.parquet"
    content = (folder / "train.parquet").read_bytes()
    path.write_bytes(content)
    reader = reader_of(path)
    with path.open("r+b") as file:
        file.seek(len(content) // 3)
        file.write(bytes(len(content) // 3))
    with pytest.raises(PairsError, match=r"train.parquet cannot be read from row 'row-\d+' on"):
        list(reader.images(FORWARD.numpy()))


def test_a_killed_process_is_an_error_of_one_line_that_names_a_row(encoded: Pairs) -> None:
    pids = processes_of(encoded)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(PairsError, match=r"^A process that decodes .*exit code -9.* row 'row-\d+'"):
        encoded.images[:]
    assert all(map(is_gone, pids))


def test_the_processes_end_with_the_pairs(encoded: Pairs) -> None:
    images = encoded.images
    assert isinstance(images, EncodedImages)
    alone = replace(encoded, images=EncodedImages(images._source._encoded, 32))
    pids = processes_of(alone)
    del alone
    assert all(map(is_gone, pids))


ENDLESS = """
import sys, time
from pathlib import Path
from clipmend.data import streaming, workers
from clipmend.data.splits import load_split

streaming._DECODED, workers._FEW, workers._PART = 0, 10, 100
pairs = load_split(Path(sys.argv[1]), "train")
decoding = pairs.images._source.decoders()._workers
pids = workers.spread(lambda rows: time.sleep(60 * rows.start) or __import__("os").getpid(), 600)
print(*(worker.process.pid for worker in decoding), next(pids), flush=True)
time.sleep(60)
"""


def test_the_processes_end_with_a_parent_that_is_killed(folder: Path) -> None:
    command = [sys.executable, "-c", ENDLESS, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pids = list(map(int, process.stdout.readline().split()))
            assert len(pids) == 1 + min(workers.cores(), decoders._MOST)
        finally:
            process.send_signal(signal.SIGKILL)
        assert all(map(is_gone, pids))
