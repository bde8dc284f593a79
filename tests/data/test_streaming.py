"""A split whose images stay in its file gives what the decoded one gives, in bounded memory."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

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
CLASSES = '{"classes": ["apple", "banana"], "prompts": ["a {}"], "image_size": 32}'
FORWARD, SHUFFLED = torch.arange(COUNT), torch.randperm(COUNT, generator=torch.Generator())


@pytest.fixture(scope="module")
def folder(corpus: Input, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of several groups of rows: the drawn one, repeated under other ids."""
    folder = tmp_path_factory.mktemp("many")
    drawn = read_pairs(corpus.folder / "train.parquet")
    table = drawn.take([row % len(drawn) for row in range(COUNT)])
    ids = pa.array([f"row-{row}" for row in range(COUNT)])
    write_pairs(table.set_column(0, table.schema.field("id"), ids), folder / "train.parquet")
    (folder / "classes.json").write_text(CLASSES)
    return folder


@pytest.fixture
def overlay(poison: Input, tmp_path: Path) -> Path:
    columns = read_pairs(poison.folder / "overlay.parquet")[:3].to_pydict()
    columns["id"] = ["row-0", "row-128", "row-599"]
    extra = {"original_caption": ["before"] * 3, "is_poisoned": [True, False, True]}
    write_pairs(pa.table(columns | extra), tmp_path / "overlay.parquet")
    return tmp_path / "overlay.parquet"


@pytest.fixture
def both(folder: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Pairs, Pairs]:
    """Return the split decoded, and left in its file; nothing is few from then on."""
    whole = load_split(folder, "train", overlay=overlay)
    monkeypatch.setattr(streaming, "_DECODED", 0)
    left = load_split(folder, "train", overlay=overlay)
    assert isinstance(whole.images, torch.Tensor)
    assert isinstance(left.images, EncodedImages)
    return whole, left


def processes_of(pairs: Pairs) -> list[int]:
    assert isinstance(pairs.images, EncodedImages)
    return [worker.process.pid for worker in pairs.images._source.decoders()._workers]


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


def test_all_but_the_images_is_the_same(both: tuple[Pairs, Pairs]) -> None:
    whole, left = both
    assert (left.ids, left.captions) == (whole.ids, whole.captions)
    assert torch.equal(left.label, whole.label)
    assert torch.equal(left.is_poisoned, whole.is_poisoned)
    assert left.images.shape == whole.images.shape
    assert len(left.images) == len(whole.images)


@pytest.mark.parametrize(
    "wanted",
    [slice(None), slice(120, 140), slice(-5, None), slice(0, 0), SHUFFLED, SHUFFLED[:1], FORWARD],
)
def test_rows_and_slices_are_those_of_the_tensor(
    both: tuple[Pairs, Pairs], wanted: slice | torch.Tensor
) -> None:
    whole, left = both
    assert torch.equal(left.images[wanted], whole.images[wanted])


@pytest.mark.parametrize("size", [1, 100, COUNT, 2 * COUNT])
def test_blocks_are_those_of_the_tensor(both: tuple[Pairs, Pairs], size: int) -> None:
    whole, left = both
    if size == 1:
        whole, left = whole.take(FORWARD[:20]), left.take(FORWARD[:20])
    blocks = list(left.images.split(size))
    assert [len(block) for block in blocks] == [len(block) for block in whole.images.split(size)]
    assert torch.equal(torch.cat(blocks), whole.images)


@pytest.mark.parametrize("ahead", [0, 100, 10_000])
def test_a_stream_is_in_order_however_far_it_reads_ahead(
    both: tuple[Pairs, Pairs], ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = both
    monkeypatch.setattr(decoders, "_AHEAD", ahead)
    parts = SHUFFLED.split(70)
    for rows, images in zip(parts, stream_images(left.images, parts), strict=True):
        assert torch.equal(images, whole.images[rows])


def test_rows_are_had_while_a_stream_goes_on_and_after_it_is_dropped(
    both: tuple[Pairs, Pairs],
) -> None:
    whole, left = both
    coming = stream_images(left.images, SHUFFLED.split(50))
    for rows in SHUFFLED.split(50)[:3]:
        assert torch.equal(next(coming), whole.images[rows])
        assert torch.equal(left.images[FORWARD[200:300]], whole.images[200:300])
    del coming
    assert torch.equal(left.images[:], whole.images)


def test_some_pairs_of_some_pairs_are_those_of_the_decoded(both: tuple[Pairs, Pairs]) -> None:
    whole, left = (pairs.take(SHUFFLED[:200]).take(SHUFFLED[SHUFFLED < 200]) for pairs in both)
    assert isinstance(left.images, EncodedImages)
    assert left.ids == whole.ids
    assert torch.equal(left.images[:], whole.images)


def test_few_are_decoded_when_they_are_taken(
    both: tuple[Pairs, Pairs], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = both
    monkeypatch.setattr(streaming, "_DECODED", 10 * 3 * 32**2)
    assert isinstance(left.take(SHUFFLED[:11]).images, EncodedImages)
    few = left.take(SHUFFLED[:10]).images
    assert isinstance(few, torch.Tensor)
    assert torch.equal(few, whole.images[SHUFFLED[:10]])


def test_joined_images_are_those_of_the_tensors(both: tuple[Pairs, Pairs]) -> None:
    whole, left = (pairs.images for pairs in both)
    together = torch.cat([whole, whole[:7]])
    mixed = join_images([left, whole[:7]])
    assert isinstance(mixed, JoinedImages)
    rows = torch.randperm(COUNT + 7, generator=torch.Generator())
    assert torch.equal(mixed[:], together)
    assert torch.equal(mixed[rows], together[rows])
    assert torch.equal(mixed.take(rows)[5:20], together[rows][5:20])
    assert torch.equal(take_images(mixed, rows)[:], together[rows])
    assert torch.equal(join_images([whole, whole[:7]])[:], together)


def test_changed_images_are_the_changed_tensor(both: tuple[Pairs, Pairs]) -> None:
    def change(images: torch.Tensor, rows: row_groups.Rows) -> torch.Tensor:
        return images + torch.from_numpy(rows % 7).to(torch.uint8)[:, None, None, None]

    whole, left = (change_images(pairs.images, change) for pairs in both)
    assert isinstance(left, ChangedImages)
    assert torch.equal(left[SHUFFLED], whole[SHUFFLED])
    assert torch.equal(torch.cat(list(left.split(90))), whole)
    assert torch.equal(left.take(SHUFFLED)[3:50], whole[SHUFFLED][3:50])


def test_threads_share_the_processes(both: tuple[Pairs, Pairs]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    whole, left = both
    parts = SHUFFLED.split(20)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda rows: left.images[rows], parts))
    assert torch.equal(torch.cat(found), whole.images[SHUFFLED])


@pytest.mark.parametrize("cores", [1, 3, 40])
def test_trained_bytes_are_those_of_the_decoded_split_for_any_number_of_processes(
    both: tuple[Pairs, Pairs], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "cores", lambda: cores)

    def trained(pairs: Pairs) -> dict[str, torch.Tensor]:
        model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
        task = Task(pairs, multimodal, Schedule(1, batch_size=64, lr=1e-3))
        fit(model, task, torch.Generator().manual_seed(0))
        return model.full_state()

    whole, left = (trained(pairs.take(SHUFFLED[:320])) for pairs in both)
    assert all(torch.equal(left[name], whole[name]) for name in whole)


def test_memory_does_not_grow_with_the_pairs(
    both: tuple[Pairs, Pairs], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, left = both
    monkeypatch.setattr(decoders, "_AHEAD", 100)
    monkeypatch.setattr(decoders, "cores", lambda: 1)
    image = 3 * 32**2

    def peak(pairs: Pairs) -> int:
        next(iter(pairs.images.split(16)))  # the processes are there
        tracemalloc.start()
        for _ in pairs.images.split(16):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(left.take(FORWARD[:300])), peak(left.take(FORWARD.repeat(8)))
    assert few < 300 * image
    assert many < few + 200_000  # row numbers, 8 bytes a pair


def test_the_room_of_the_processes_does_not_depend_on_the_pairs(both: tuple[Pairs, Pairs]) -> None:
    _, left = both
    assert isinstance(left.images, EncodedImages)
    workers = left.images._source.decoders()._workers
    room = sum(worker.ring.shape[0] * worker.ring.shape[1] for worker in workers)
    assert room <= 2 * max(decoders._AHEAD, 128 * len(workers))


class Counted(Groups):
    """Groups that count how often one is read."""

    count = 0

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        self.count += 1
        return super().read(group, columns)


@pytest.fixture
def reader(folder: Path) -> Callable[[int], Reader]:
    ids = tuple(f"row-{row}" for row in range(COUNT))

    def made(budget: int) -> Reader:
        reader = Reader(
            Encoded(folder / "train.parquet", ids, {}, pa.chunked_array([[b""]])), budget
        )
        reader._groups = Counted(folder / "train.parquet")
        return reader

    return made


def test_a_shuffled_pass_reads_a_group_no_more_than_twice(
    reader: Callable[[int], Reader],
) -> None:
    one = reader(2**30)
    for part in SHUFFLED.split(32):
        list(one.images(part.numpy()))
    assert one._groups.count == 2 * 5  # 600 rows in groups of 128


def test_groups_are_kept_within_a_budget(reader: Callable[[int], Reader]) -> None:
    one = reader(1)
    for part in SHUFFLED.split(32):
        list(one.images(part.numpy()))
    assert len(one._kept) == 1
    assert one._bytes == next(iter(one._kept.values())).nbytes


def test_rows_from_anywhere_do_not_displace_what_is_kept(
    reader: Callable[[int], Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "_REMEMBERED", 2)
    one = reader(2**30)
    for row in (0, 1, 130, 260, 390, 520, 131):  # only the first group is soon wanted again
        list(one.images(torch.tensor([row]).numpy()))
    assert list(one._kept) == [0]


def broken(folder: Path, into: Path, row: int) -> Path:
    columns = read_pairs(folder / "train.parquet").to_pydict()
    columns["image"][row] = columns["image"][row][:60]
    write_pairs(table_of(columns), into / "train.parquet")
    (into / "classes.json").write_text(CLASSES)
    return into


def test_a_truncated_image_is_one_line_that_names_its_row_and_leaves_no_process(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_DECODED", 0)
    pairs = load_split(broken(folder, tmp_path, 333), "train")
    pids = processes_of(pairs)
    with pytest.raises(
        PairsError, match=r"^Row 'row-333': Pillow cannot decode its image of 60 bytes [^\n]*$"
    ):
        list(pairs.images.split(100))
    assert all(map(is_gone, pids))
    assert len(pairs.images[FORWARD[:10]]) == 10  # others can still be had


def test_a_damaged_file_is_one_line(folder: Path, tmp_path: Path) -> None:
    ids = tuple(f"row-{row}" for row in range(COUNT))
    path = tmp_path / "train.parquet"
    path.write_bytes((folder / "train.parquet").read_bytes())
    one = Reader(Encoded(path, ids, {}, pa.chunked_array([[b""]])), 2**30)
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(whole) // 3)
        file.write(bytes(len(whole) // 3))
    with pytest.raises(PairsError, match=r"train.parquet cannot be read from row 'row-\d+' on"):
        list(one.images(FORWARD.numpy()))


def test_a_killed_process_is_one_line_that_names_a_row(both: tuple[Pairs, Pairs]) -> None:
    _, left = both
    pids = processes_of(left)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(PairsError, match=r"^A process that decodes .*exit code -9.* row 'row-\d+'"):
        left.images[:]
    assert all(map(is_gone, pids))


def test_processes_end_with_the_pairs(both: tuple[Pairs, Pairs]) -> None:
    _, left = both
    alone = replace(left, images=EncodedImages.of(left.images._source._encoded, 32))
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


@pytest.fixture
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", ENDLESS, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_processes_end_with_a_parent_that_is_killed(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    pids = list(map(int, running.stdout.readline().split()))
    assert len(pids) == 1 + min(workers.cores(), decoders._MOST)
    running.send_signal(signal.SIGKILL)
    assert all(map(is_gone, pids))
