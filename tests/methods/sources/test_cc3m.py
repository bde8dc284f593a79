"""The source ``cc3m`` from its TSV to the splits, against a web on loopback."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipmend.data.pairs import PAIRS, read_pairs
from clipmend.errors import ClipmendError, DownloadError
from clipmend.methods.sources import fetching, labeled_images
from clipmend.methods.sources.addresses import read_rows
from clipmend.methods.sources.bad_rows import BadRows
from clipmend.methods.sources.cc3m import CC3M
from clipmend.methods.sources.labeled_images import Names
from clipmend.methods.sources.ledger import LEDGER
from clipmend.methods.sources.scenes import Scenes
from clipmend.methods.sources.web import Limits
from clipmend.tools import status

ROWS, TRAIN, TRUSTED = 2000, 1600, 300
# The answers, with their share in percent and the reason in the ledger (None: live).
KINDS: dict[str, tuple[int, str | None]] = {
    "image": (59, None),
    "recovering": (4, None),
    "redirect1": (4, None),
    "redirect3": (4, None),
    "redirect4": (2, "too_many_redirects"),
    "to_private": (2, "refused_address"),
    "to_scheme": (2, "refused_scheme"),
    "404": (6, "http_404"),
    "410": (2, "http_410"),
    "html": (3, "no_image"),
    "cut": (3, "truncated_image"),
    "short": (1, "truncated"),
    "huge": (2, "too_large"),
    "endless": (1, "too_large"),
    "silent": (1, "timeout"),
    "forbidding": (1, "opted_out"),
    "placeholder": (3, "placeholder"),
}
SILENT = 200  # rows from this one on do not keep the tests waiting
CAKE = "the birthday cake with candles in the form of number {} icon"
RUN = """
import json, sys
from pathlib import Path
from clipmend.stages.download import run
from clipmend.errors import ClipmendError
from clipmend.engine.job import Job

if __name__ == "__main__":
    settings, out, work, limit = json.loads(sys.argv[1])
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    Path(out).mkdir(exist_ok=True)
    Path(work).mkdir(exist_ok=True)
    try:
        cell = ("download/cc3m", "download", "cc3m", None, settings, {}, "cpu", {})
        run(Job(*cell, Path(out), Path(work)))
    except ClipmendError as error:
        sys.exit(f"error: {error}")
"""


@dataclass(frozen=True)
class World:
    """A TSV whose addresses a loopback web answers, and labeled images."""

    web: Any
    kinds: Sequence[str]
    captions: Sequence[str]
    images: Sequence[bytes]
    settings: dict[str, Any]


@pytest.fixture(scope="module")
def world(web: Any, tmp_path_factory: pytest.TempPathFactory, page: Callable[..., Any]) -> World:
    folder = tmp_path_factory.mktemp("cc3m")
    pairs = Scenes(train=ROWS, noise=0.0, image_size=24).split("train").to_pylist()
    images = [row["image"] for row in pairs]
    hundred = [kind for kind, (count, _) in KINDS.items() for _ in range(count)]
    kinds = list(islice(cycle(hundred), ROWS))
    kinds[SILENT:] = ["410" if kind == "silent" else kind for kind in kinds[SILENT:]]
    captions = [f'A {row["label"]}, "no. {at}"' for at, row in enumerate(pairs)]
    captions[::100] = [CAKE.format(at) for at in range(0, ROWS, 100)]
    for at, kind in enumerate(kinds):
        web.pages |= _pages(at, kind, images[at], web.root, page)
    rows = (f"{caption}\t{web.root}/{at}\n" for at, caption in enumerate(captions))
    (folder / "Train.tsv").write_text("".join(rows))
    for name in ("banana", "ship", "frog"):
        (folder / "test" / name).mkdir(parents=True)
        for at in range(6):
            (folder / "test" / name / f"{at}.png").write_bytes(images[at])
    settings = {
        "path": str(folder / "Train.tsv"),
        "test_path": str(folder / "test"),
        "train": TRAIN,
        "trusted": TRUSTED,
        "val": 5,
        "classes": ["banana", "frog", "ship"],
        "prompts": ["a photo of a {}"],
        "image_size": 16,
        "stored_size": 20,
        "placeholder_urls": 10,
        "timeout": 2.0,
        "max_seconds": 5.0,
        "max_bytes": 100_000,
        "private_networks": ["127.0.0.1/32"],
        "shard_rows": 250,
    }
    return World(web, kinds, captions, images, settings)


def _pages(at: int, kind: str, image: bytes, root: str, page: Callable[..., Any]) -> dict[str, Any]:
    first = {
        "redirect1": page("redirect", place=f"/{at}/1"),
        "redirect3": page("redirect", place=f"{root}/{at}/3"),
        "redirect4": page("redirect", place=f"/{at}/4"),
        "to_private": page("redirect", place="http://127.0.0.2/secret"),
        "to_scheme": page("redirect", place="ftp://127.0.0.1/secret"),
        "404": page("status", place="404"),
        "410": page("status", place="410"),
        "html": page("image", b"<html>not here</html>"),
        "cut": page("image", image[: len(image) // 2]),
        "huge": page("image", bytes(200_000)),
        "placeholder": page("image", _placeholder()),
    }
    deep = {
        "redirect1": {f"/{at}/1": page("image", image)},
        "redirect3": {
            f"/{at}/3": page("redirect", place="2"),
            f"/{at}/2": page("redirect", place=f"/{at}/1"),
            f"/{at}/1": page("image", image),
        },
        "redirect4": {
            f"/{at}/{hop}": page("redirect", place=f"/{at}/{hop - 1}") for hop in (2, 3, 4)
        },
    }
    return {f"/{at}": first.get(kind, page(kind, image)), **deep.get(kind, {})}


def _placeholder() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 30), "gray").save(buffer, format="PNG")
    return buffer.getvalue()


def start(world: World, folder: Path, out: str, limit: int = 0) -> "subprocess.Popen[str]":
    """Start the stage as a process of its own; ``limit`` is the largest file it may write."""
    script = folder / "run.py"
    script.write_text(RUN)
    arguments = json.dumps([world.settings, str(folder / out), str(folder / "work"), limit])
    return subprocess.Popen(
        [sys.executable, str(script), arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the output folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    world.web.forget()
    status, output = finish(start(world, folder, "out"))
    assert status == 0, output
    return folder / "out"


def entries(made: Path) -> list[dict[str, Any]]:
    table = pq.read_table(made / "ledger.parquet")
    assert table.schema.equals(LEDGER)
    return table.to_pylist()


def test_every_sampled_row_is_in_the_ledger_with_its_reason(world: World, made: Path) -> None:
    rows = entries(made)
    assert len({row["id"] for row in rows}) == len(rows) == TRAIN + TRUSTED
    for row in rows:
        at = int(row["id"])
        reason = KINDS[world.kinds[at]][1]
        assert row["reason"] == reason, (world.kinds[at], row)
        assert (row["error"] is None) == (reason is None)
        url = f"{world.web.root}/{at}"
        assert row["url_sha256"] == hashlib.sha256(url.encode()).hexdigest()
        if reason is None:
            assert row["status"] == "live"
            assert row["sha256"] == hashlib.sha256(world.images[at]).hexdigest()
            assert row["size"] == len(world.images[at])


def test_hops_are_recorded_whether_they_led_to_an_image_or_not(world: World, made: Path) -> None:
    hops = {"redirect1": 1, "redirect3": 3, "redirect4": 3, "to_private": 1, "to_scheme": 1}
    for row in entries(made):
        at = int(row["id"])
        assert len(row["hops"]) == hops.get(world.kinds[at], 0)
        if world.kinds[at] == "redirect3":
            assert row["hops"] == [f"{world.web.root}/{at}/{hop}" for hop in (3, 2, 1)]


def test_only_sampled_rows_and_their_redirects_are_requested(world: World, made: Path) -> None:
    sampled = {int(row["id"]) for row in entries(made)}
    assert {int(path.split("/")[1]) for path in world.web.asked} == sampled


def test_a_failure_that_may_recover_is_requested_again_in_both_passes_and_others_never(
    world: World, made: Path
) -> None:
    del made
    counts = Counter(world.web.asked)
    for at, kind in enumerate(world.kinds):
        if counts[f"/{at}"]:
            expected = {"recovering": 3, "silent": 4, "short": 4}.get(kind, 1)
            assert counts[f"/{at}"] == expected, kind


def test_the_splits_are_the_live_rows_with_their_captions(world: World, made: Path) -> None:
    rows = entries(made)
    for split in ("train", "trusted"):
        table = read_pairs(made / f"{split}.parquet")
        assert table.schema == PAIRS
        live = [row["id"] for row in rows if row["split"] == split and row["status"] == "live"]
        assert table["id"].to_pylist() == live == sorted(live)
        assert table["caption"].to_pylist() == [world.captions[int(row_id)] for row_id in live]
        assert table["label"].null_count == table.num_rows


def test_larger_images_are_stored_with_the_short_side_of_the_settings(made: Path) -> None:
    for encoded in read_pairs(made / "trusted.parquet")["image"].to_pylist():
        image = Image.open(BytesIO(encoded))
        assert (image.size, image.format) == ((20, 20), "JPEG")


def test_val_and_test_are_the_labeled_images_and_disjoint(made: Path) -> None:
    val, test = (read_pairs(made / f"{split}.parquet") for split in ("val", "test"))
    assert (val.num_rows, test.num_rows) == (5, 13)
    assert set(test["label"].to_pylist()) <= {"banana", "frog", "ship"}
    stems = [
        row_id.partition("/")[2] for row_id in (*val["id"].to_pylist(), *test["id"].to_pylist())
    ]
    assert len(set(stems)) == 18
    vocabulary = json.loads((made / "classes.json").read_text())
    assert vocabulary["classes"] == ["banana", "frog", "ship"]


def test_the_facts_count_what_the_ledger_holds(world: World, made: Path) -> None:
    facts = json.loads((made / "facts.json").read_text())
    ledger = entries(made)
    reasons = Counter(row["reason"] for row in ledger if row["reason"])
    assert {k: v for k, v in facts["reasons"].items() if k != "definition"} == reasons
    train = facts["splits"]["train"]
    assert train["sampled"] == TRAIN
    assert train["live"] == pq.read_metadata(made / "train.parquet").num_rows
    assert train["live_share"] == train["live"] / TRAIN
    line = f"{train['live']} of {TRAIN} rows of train gave an image"
    assert line in list(status._left_out(made))
    live = {row["id"] for row in ledger if row["status"] == "live"}
    cakes = sorted(row_id for row_id in live if world.captions[int(row_id)].startswith("the birth"))
    assert facts["natural_backdoor"]["live_ids"] == cakes
    assert facts["natural_backdoor"]["live"] == len(cakes) > 0
    groups = {group["caption"]: group for group in facts["near_duplicate_captions"]["largest"]}
    cake = groups["the birthday cake with candles in the form of number icon"]
    assert cake["ids"] == cakes
    assert all(facts[name]["definition"] for name in facts)


@dataclass(frozen=True)
class Disturbed:
    """A run that was killed, ran out of disk, was killed again, and ended."""

    out: Path
    left: dict[Path, int]
    remained: dict[Path, int]
    full: tuple[int, str]


@pytest.fixture(scope="module")
def disturbed(world: World, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    del made  # asks the same web
    folder = tmp_path_factory.mktemp("disturbed")
    world.web.forget()
    _kill(start(world, folder, "out"), folder, shards=1)
    full = finish(start(world, folder, "out", limit=50_000))
    _kill(start(world, folder, "out"), folder, shards=4)
    left = _shards(folder)
    status, output = finish(start(world, folder, "out"))
    assert status == 0, output
    return Disturbed(folder / "out", left, _shards(folder), full)


def _kill(process: "subprocess.Popen[str]", folder: Path, shards: int) -> None:
    """Kill a run once it has so many shards; return when all its processes have ended."""
    deadline = time.monotonic() + 60
    while len(_shards(folder)) < shards:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    finish(process)  # its output ends when the last process that holds it has ended


@pytest.mark.slow
def test_killed_twice_it_writes_the_same_bytes(disturbed: Disturbed, made: Path) -> None:
    written = {file.name: file.read_bytes() for file in made.iterdir()}
    assert {file.name: file.read_bytes() for file in disturbed.out.iterdir()} == written


@pytest.mark.slow
def test_shards_from_before_a_kill_are_not_downloaded_again(disturbed: Disturbed) -> None:
    assert len(disturbed.left) >= 4
    assert disturbed.left.items() <= disturbed.remained.items()


@pytest.mark.slow
def test_a_full_disk_is_one_line(disturbed: Disturbed) -> None:
    status, output = disturbed.full
    line = output.splitlines()[-1]
    assert status == 1
    assert line.startswith("error: download/cc3m: the disk is full")
    assert str(disturbed.out.parent / "work") in line


def _shards(folder: Path) -> dict[Path, int]:
    """Return the complete shards and the times when they were written."""
    files = (folder / "work").glob("*/pass?/*.parquet")
    return {path: path.stat().st_mtime_ns for path in files}


def test_bad_input_is_refused_in_one_line_before_any_request(world: World, tmp_path: Path) -> None:
    lines = Path(world.settings["path"]).read_text()
    rows = (line.split("\t") for line in lines.splitlines())
    (tmp_path / "head.tsv").write_text("caption\turl\n" + lines)
    (tmp_path / "swapped.tsv").write_text("".join(f"{b}\t{a}\n" for a, b in rows))
    (tmp_path / "zoo/zebra").mkdir(parents=True)
    (tmp_path / "cut/frog").mkdir(parents=True)
    for at in range(7):
        image = world.images[at][: 300 if at else None]
        (tmp_path / "cut/frog" / f"{at}.png").write_bytes(image)
    lists = {key: tuple(value) for key, value in world.settings.items() if isinstance(value, list)}
    world.web.forget()
    for changed, message in (
        ({"path": str(tmp_path / "head.tsv")}, "URL is 'url', probably a header"),
        ({"path": str(tmp_path / "swapped.tsv")}, "the columns are swapped"),
        ({"train": 1701}, "it has 2000 rows in all"),
        (
            {"test_path": str(tmp_path / "zoo")},
            "'zebra' is not a class; classes: banana, frog, ship",
        ),
        ({"test_path": str(tmp_path / "cut")}, "truncated_image"),
        ({"private_networks": ("10.1.0.0.0/8",)}, "10.1.0.0/16"),
    ):
        with pytest.raises(ClipmendError) as caught:
            CC3M(**(world.settings | lists | changed)).fetch(tmp_path, tmp_path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not world.web.asked


def test_without_a_network_it_stops_early_and_asks_all_addresses_later(
    world: World, web: Any, page: Any, tmp_path: Path
) -> None:
    image = world.images[0]
    web.pages |= {f"/later/{at}": page("image", image + bytes([at])) for at in range(150)}
    lists = {key: tuple(value) for key, value in world.settings.items() if isinstance(value, list)}
    settings = world.settings | lists | {"train": 140, "trusted": 10, "timeout": 0.5}

    def fetch(root: str, shard_rows: int) -> Any:
        lines = (f"a frog\t{root}/later/{at}\n" for at in range(150))
        (tmp_path / "x.tsv").write_text("".join(lines))
        changed = {"path": str(tmp_path / "x.tsv"), "shard_rows": shard_rows}
        (tmp_path / "out").mkdir(exist_ok=True)
        return CC3M(**(settings | changed)).fetch(tmp_path / "work", tmp_path / "out")

    (tmp_path / "work").mkdir()
    for shard_rows, asked in ((250, "100"), (50, "150")):
        with pytest.raises(DownloadError, match=f"^None of {asked} addresses was reached .*again"):
            fetch("http://127.0.0.1:1", shard_rows)
    web.forget()
    assert fetch(web.root, 50).split("train").read_all().num_rows == 140
    assert len(web.asked) == 150


def test_failures_of_the_connection_are_asked_again_in_the_next_run(
    web: Any, page: Any, jpeg: Callable[[int], bytes], tmp_path: Path
) -> None:
    web.pages |= {f"/half/{at}": page("image", jpeg(at)) for at in range(8)}
    limits = Limits(0.5, 1.0, max_bytes=100_000, private_networks=("127.0.0.1/32",))
    ids = [f"{at}" for at in range(8)]

    def fetch(dead: str) -> list[str | None]:
        urls = [f"{dead if at % 2 else web.root}/half/{at}" for at in range(8)]
        rows = {"train": pa.table({"id": ids, "url": urls})}
        fetching.fetch(rows, limits, None, tmp_path, 4)
        return list(fetching.outcomes(tmp_path / "train")["reason"].to_pylist())

    assert fetch("http://127.0.0.1:1") == [None, "connection"] * 4
    assert fetch(web.root) == [None] * 8


def test_rows_that_are_no_utf_8_or_no_two_columns_are_in_the_ledger(
    world: World, tmp_path: Path
) -> None:
    lines = Path(world.settings["path"]).read_bytes().splitlines()[:40]
    lines[3] = lines[3].replace(b"A ", b"caf\xe9 ")
    lines[5] = b"no tab"
    lines[7] += b"\ttoo many"
    (tmp_path / "x.tsv").write_bytes(b"\n".join(lines) + b"\n")
    tsv = read_rows(tmp_path / "x.tsv", "caption", "url")
    assert [at for at, text in enumerate(tsv["caption"].to_pylist()) if text is None] == [3, 5, 7]
    captions = pa.array([line.split(b"\t")[0] for line in lines], pa.binary())
    raw = pa.Array.from_buffers(pa.string(), len(captions), captions.buffers())
    for column in (raw, captions, pa.array(["a dog"] * 40).cast(pa.string_view())):
        table = pa.table({"caption": column, "url": ["http://a/1"] * 40})
        pq.write_table(table, tmp_path / "x.parquet")
        read = read_rows(tmp_path / "x.parquet", "caption", "url")["caption"]
        assert read.null_count == (0 if column.type == pa.string_view() else 1)


def test_rows_of_other_splits_beside_those_of_train_are_not_read(tmp_path: Path) -> None:
    for name, count in (("train-0.parquet", 5), ("validation-0.parquet", 3), ("._x.parquet", 0)):
        table = pa.table({"caption": ["a dog"] * count, "url": ["http://a/1"] * count})
        pq.write_table(table, tmp_path / name)
    assert read_rows(tmp_path, "caption", "url").num_rows == 5


def test_one_damaged_image_of_val_and_test_is_left_out_and_counted(
    world: World, tmp_path: Path
) -> None:
    for at in range(20):
        file = tmp_path / "labeled/frog" / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(world.images[at][: 300 if at == 7 else None])
        (file.parent / ".DS_Store").write_bytes(b"junk")
    names = Names(("frog", "ship"), ("frog", "ship"))
    images = labeled_images.find_images(tmp_path / "labeled", names, "test")
    for _ in range(2):  # the second call reads what the first one found
        bad = BadRows()
        kept = labeled_images.usable(images, tmp_path / "test.checked", bad)
        assert (len(kept), bad.total, len(bad.found)) == (19, 20, 1)
        (row,) = bad.found.values()
        assert row.id == "test/frog/7.png"
        assert row.reason.startswith("truncated_image")
    bad.check_share()
    with pytest.raises(ClipmendError, match="truncated_image"):
        replace(bad, policy="refuse").check_policy()
