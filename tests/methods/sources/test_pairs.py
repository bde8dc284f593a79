"""The source ``pairs``: the files it accepts, the splits it carves, the errors it raises."""

import csv
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.data.pairs import PAIRS, SPLITS
from clipmend.data.writer import write_split
from clipmend.errors import PairsError
from clipmend.methods.sources.pairs import UserPairs
from clipmend.methods.sources.webdataset import Span

CLASSES = ("frog", "ship")
CARVED = {"trusted": 4, "val": 5, "test": 6}
PHOTOS = Path(__file__).resolve().parents[3] / "data" / "photos"

Write = Callable[..., Path]
Jpeg = Callable[[int], bytes]
Shard = Callable[[Path, Mapping[str, bytes]], Path]


def source(path: Path, **settings: Any) -> UserPairs:
    return UserPairs(**({"classes": CLASSES, "path": str(path)} | CARVED | settings))


def ids(pairs: UserPairs, split: str) -> list[str]:
    return pairs.split(split).read_all()["id"].to_pylist()


def rows(pairs: UserPairs, split: str) -> list[dict[str, Any]]:
    return pairs.split(split).read_all().to_pylist()


def sizes(pairs: UserPairs) -> dict[str, int]:
    return {name: pairs.split(name).read_all().num_rows for name in SPLITS}


def refusal(pairs: UserPairs) -> str:
    pairs = replace(pairs, on_bad_rows="refuse")
    with pytest.raises(PairsError) as caught:
        pairs.split("train")
    message = str(caught.value)
    assert "\n" not in message
    return message


def members(jpeg: Jpeg, numbers: range, label: str = "") -> dict[str, bytes]:
    """Return the members of a shard with the rows that ``write`` writes, labels as numbers."""
    shard: dict[str, bytes] = {}
    for number in numbers:
        shard[f"row-{number}.jpg"] = jpeg(number)
        shard[f"row-{number}.txt"] = f"a photo of a {CLASSES[number % 2]}\n".encode()
        shard[f"row-{number}.cls"] = (label or str(number % 2)).encode()
        shard[f"row-{number}.json"] = b"{}"
    return shard


def write_csv(folder: Path, rows: Sequence[Sequence[str]], name: str = "pairs.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([("id", "image", "caption", "label"), *rows])
    return folder


# Accepted files


def test_splits_carved_from_one_file_are_disjoint_and_together_the_file(write: Write) -> None:
    path = write("mine.parquet", 40)
    pairs = source(path)
    assert sizes(pairs) == CARVED | {"train": 25}
    carved = [row for name in SPLITS for row in rows(pairs, name)]
    order = {f"row-{number}": number for number in range(40)}
    assert sorted(carved, key=lambda row: order[row["id"]]) == pq.read_table(path).to_pylist()
    for name in SPLITS:
        assert pairs.split(name).schema == PAIRS
        numbers = [order[row_id] for row_id in ids(pairs, name)]
        assert numbers == sorted(numbers)  # rows keep their order


def test_files_named_after_splits_are_those_splits_and_the_rest_is_carved(write: Write) -> None:
    folder = write("photos/train.parquet", 30).parent
    write("photos/test.parquet", 7, "held-out")
    pairs = source(folder, test=1)
    assert ids(pairs, "test") == [f"held-out-{row}" for row in range(7)]
    assert sizes(pairs) == {"train": 21, "trusted": 4, "val": 5, "test": 7}


def test_shards_of_a_split_are_read_in_the_order_of_their_names(write: Write) -> None:
    for shard in (1, 0):
        folder = write(f"photos/train-{shard:05d}-of-00002.parquet", 20, f"{shard}").parent
    shards = [row_id[0] for row_id in ids(source(folder), "train")]
    assert shards == sorted(shards)
    assert set(shards) == {"0", "1"}


def test_files_that_are_named_after_no_split_are_all_train(write: Write) -> None:
    folder = write("mine/part1.parquet", 20, "a").parent
    write("mine/part2.parquet", 20, "b")
    assert sizes(source(folder)) == CARVED | {"train": 25}


def test_each_split_can_have_a_path_of_its_own(write: Write) -> None:
    paths = {f"{name}_path": str(write(f"{name}/x.parquet", 8, name)) for name in SPLITS}
    pairs = UserPairs(classes=CLASSES, **paths)
    assert {name: ids(pairs, name)[0] for name in SPLITS} == {name: f"{name}-0" for name in SPLITS}


def test_a_folder_can_hold_a_csv_file_and_the_images_that_it_names(
    tmp_path: Path, jpeg: Jpeg
) -> None:
    rows_of_csv = [(f"00{n}", f"images/{n}.jpg", "a frog, \nNA", "frog") for n in range(30)]
    folder = write_csv(tmp_path / "mine", rows_of_csv)
    (folder / "images").mkdir()
    for n in range(30):
        (folder / "images" / f"{n}.jpg").write_bytes(jpeg(n))
    row = rows(source(folder), "train")[0]
    assert row["id"].startswith("00")
    assert row["image"] == jpeg(int(row["id"]))
    assert row["caption"] == "a frog, \nNA"


def test_webdataset_shards_are_the_pairs_that_a_parquet_file_of_the_same_rows_is(
    write: Write, tmp_path: Path, jpeg: Jpeg, shard: Shard
) -> None:
    shard(tmp_path / "wds" / "00001.tar", members(jpeg, range(25, 40), "ship"))
    folder = shard(tmp_path / "wds" / "00000.tar", members(jpeg, range(25))).parent
    labels = [CLASSES[row % 2] if row < 25 else "ship" for row in range(40)]
    flat = source(write("mine.parquet", 40, label=labels))
    sharded = source(folder)
    assert all(rows(sharded, name) == rows(flat, name) for name in SPLITS)


def test_a_shard_need_not_have_labels_nor_keys_of_its_own(
    tmp_path: Path, jpeg: Jpeg, shard: Shard, write: Write
) -> None:
    bare = {name: data for name, data in members(jpeg, range(9)).items() if ".cls" not in name}
    folder = shard(tmp_path / "mine" / "train-0.tar", bare).parent
    shard(folder / "train-1.tar", bare)
    paths = {f"{name}_path": str(write(f"{name}.parquet", 4, name)) for name in ("val", "test")}
    numbered = source(folder, id_column=None, **paths)
    train = rows(numbered, "train")
    assert (len(train), train[0]["label"], train[0]["id"][:6]) == (14, None, "train-")
    assert "'row-0' occurs twice" in refusal(source(folder, **paths))


def test_a_split_is_read_a_block_at_a_time_from_one_large_group(tmp_path: Path, jpeg: Jpeg) -> None:
    count, padding = 2000, bytes(40_000)  # bytes after a picture are ignored
    columns = {"id": list(range(count)), "image": [jpeg(n) + padding for n in range(count)]}
    columns |= {"caption": ["a frog"] * count, "label": ["frog"] * count}
    pq.write_table(
        pa.table(columns), tmp_path / "mine.parquet", use_dictionary=False, write_batch_size=16
    )
    assert pq.read_metadata(tmp_path / "mine.parquet").num_row_groups == 1
    reader = source(tmp_path / "mine.parquet").split("train")
    before, most = pa.total_allocated_bytes(), 0
    for batch in reader:
        assert batch.num_rows <= 128
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < count * len(padding) / 4


def test_an_image_of_a_shard_is_read_for_its_own_split_alone(
    tmp_path: Path, jpeg: Jpeg, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = source(shard(tmp_path / "mine.tar", members(jpeg, range(40))))
    sizes(pairs)
    read: list[Span] = []
    monkeypatch.setattr(Span, "read", lambda span: read.append(span) or jpeg(0))
    sizes(pairs)
    assert len(read) == len(set(read)) == 40


def test_the_same_rows_are_the_same_corpus_in_whatever_form(
    write: Write, tmp_path: Path, jpeg: Jpeg, shard: Shard
) -> None:
    path = write("mine.parquet", 600, image=[jpeg(n) + bytes(12_000) for n in range(600)])
    table = pq.read_table(path)
    pq.write_table(table, tmp_path / "again.parquet", row_group_size=77)
    tar: dict[str, bytes] = {}
    for row in table.to_pylist():
        parts = {"jpg": row["image"], "txt": row["caption"].encode(), "cls": row["label"].encode()}
        tar |= {f"{row['id']}.{suffix}": data for suffix, data in parts.items()}
    forms = [path, tmp_path / "again.parquet", shard(tmp_path / "mine.tar", tar)]
    for number, form in enumerate(forms):
        write_split(source(form).split("train"), tmp_path / f"{number}", None)
    assert len({(tmp_path / f"{number}").read_bytes() for number in range(3)}) == 1


def test_metadata_of_img2dataset_beside_its_shards_is_not_read(
    tmp_path: Path, jpeg: Jpeg, shard: Shard, write: Write
) -> None:
    path = shard(tmp_path / "out" / "00000.tar", members(jpeg, range(40)))
    pq.write_table(pa.table({"url": ["x"], "key": ["0"]}), path.with_suffix(".parquet"))
    assert sizes(source(path.parent))["train"] == 25
    write("out/others.parquet", 4)
    assert "in several formats, *.parquet and *.tar" in refusal(source(path.parent))


def test_hidden_files_and_notes_in_a_shard_are_skipped(
    tmp_path: Path, jpeg: Jpeg, shard: Shard
) -> None:
    strays = {"._row-0.jpg": b"finder", "README.md": b"hello"}
    path = shard(tmp_path / "mine.tar", strays | members(jpeg, range(40)))
    assert sizes(source(path))["train"] == 25


def test_columns_are_found_under_the_names_that_the_user_gives(write: Write, jpeg: Jpeg) -> None:
    usual = dict.fromkeys(("id", "image", "caption", "label"))
    path = write(
        "mine.parquet",
        30,
        **usual,
        key=list(range(30)),
        jpg=[{"bytes": jpeg(n), "path": None} for n in range(30)],
        txt=["a ship"] * 30,
        cls=[1] * 30,
    )
    pairs = source(
        path, id_column="key", image_column="jpg", caption_column="txt", label_column="cls"
    )
    first = rows(pairs, "train")[0]
    assert first["image"] == jpeg(int(first["id"]))
    assert (first["caption"], first["label"]) == ("a ship", "ship")


def test_rows_without_ids_are_numbered_within_their_split(write: Write) -> None:
    folder = write("mine/train.parquet", 20, id=None).parent
    write("mine/test.parquet", 3, id=None)
    pairs = source(folder, id_column=None)
    assert ids(pairs, "test") == ["test-000000", "test-000001", "test-000002"]


def test_training_pairs_need_no_labels(write: Write) -> None:
    folder = write("mine/train.parquet", 20, label=None).parent
    write("mine/val.parquet", 4, "val")
    write("mine/test.parquet", 4, "test")
    assert [row["label"] for row in rows(source(folder), "train")] == [None] * 16


# Carved splits


def test_carving_depends_on_the_ids_and_not_on_the_order_of_the_rows(write: Write) -> None:
    one = source(write("one.parquet", 40, id=[f"{n}" for n in range(40)]))
    two = source(write("two.parquet", 40, id=[f"{n}" for n in reversed(range(40))]))
    assert all(set(ids(one, name)) == set(ids(two, name)) for name in SPLITS)


def test_more_trusted_pairs_leave_val_and_test_as_they_were(write: Write) -> None:
    path = write("mine.parquet", 40)
    few, many = source(path), source(path, trusted=12)
    assert ids(few, "test") == ids(many, "test")
    assert ids(few, "val") == ids(many, "val")
    assert set(ids(few, "trusted")) < set(ids(many, "trusted"))


def test_another_seed_carves_other_rows(write: Write) -> None:
    path = write("mine.parquet", 40)
    assert ids(source(path), "test") != ids(source(path, seed=1), "test")


def test_train_can_be_cut_to_a_part_of_what_is_left(write: Write) -> None:
    path = write("mine.parquet", 40)
    few = ids(source(path, train=10), "train")
    assert len(few) == 10
    assert set(few) < set(ids(source(path), "train"))


# Errors


# Rows, columns that differ from the usual ones ("image": those of some rows), and the reason.
REFUSED: dict[str, tuple[int, dict[str, Any], str]] = {
    "a missing column, with the existing columns": (
        *(40, {"caption": None, "text": ["x"] * 40}),
        "no column 'caption' (caption_column); it has: id, image, label, text",
    ),
    "a second image that cannot be decoded": (
        *(40, {"image": {3: b"broken", 9: b"broken"}}),
        "row 3 (id 'row-3'): Pillow cannot read its 6 bytes as an image (2 of 40 rows",
    ),
    "a caption that is null": (
        *(40, {"caption": ["a frog"] * 39 + [None]}),
        "row 39 (id 'row-39'): the caption is empty",
    ),
    "a caption that is empty": (
        *(40, {"caption": ["a frog"] * 39 + [""]}),
        "row 39 (id 'row-39'): the caption is empty",
    ),
    "captions that are no text": (
        *(40, {"caption": [["a frog", "a toad"]] * 40}),
        "the caption is list; it must be text",
    ),
    "an id that occurs twice, with both rows": (
        *(40, {"id": ["same" if n in (5, 8) else f"{n}" for n in range(40)]}),
        "'same' occurs twice: in row 5 of {path} and row 8 of {path}",
    ),
    "an id that is null": (3, {"id": ["a", None, "b"]}, "row 1: the id is empty"),
    "an image that is null": (3, {"image": {1: None}}, "row 1 (id 'row-1'): the image is null"),
    **{
        f"the label {label!r}, which is no class": (
            *(3, {"label": [None, label, None]}),
            f"row 1 (id 'row-1'): the label {label!r} is not a class; classes: frog, ship.",
        )
        for label in ("toad", 2, -1)
    },
    "val and test without labels": (
        *(40, {"label": None}),
        "5 of 5 pairs of the split 'val' have no label, and accuracy needs one for each: put a "
        "class into their column 'label' (label_column)",
    ),
    "too few rows to carve, with the numbers": (
        *(15, {}),
        "15 training pairs are too few to carve test: 6, val: 5, trusted: 4",
    ),
    "a file without rows": (0, {}, "is empty"),
}


@pytest.mark.parametrize(("count", "columns", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused_with_the_reason(
    write: Write, jpeg: Jpeg, count: int, columns: dict[str, Any], message: str
) -> None:
    images = [columns.get("image", {}).get(row, jpeg(row)) for row in range(count)]
    path = write("mine.parquet", count, **(columns | {"image": images}))
    assert message.format(path=path) in refusal(source(path))


@pytest.mark.parametrize("broken", [b"", b"no image", "truncated"])
def test_an_image_that_cannot_be_decoded_is_named_by_file_row_and_id(
    write: Write, jpeg: Jpeg, broken: bytes | str
) -> None:
    images = [jpeg(n) for n in range(40)]
    images[17] = images[17][:-30] if broken == "truncated" else broken
    path = write("mine.parquet", 40, image=images)
    assert f"{path}, row 17 (id 'row-17')" in refusal(source(path))


def test_an_id_in_two_splits_is_refused(write: Write) -> None:
    folder = write("mine/train.parquet", 40).parent
    write("mine/test.parquet", 3)
    assert "train.parquet and row 0 of" in refusal(source(folder)).replace("test", "train")


def test_a_split_that_measures_accuracy_needs_a_label_of_every_pair(write: Write) -> None:
    folder = write("mine/train.parquet", 20, label=None).parent
    write("mine/val.parquet", 4, "val")
    write("mine/test.parquet", 4, "test", label=["ship", None, "ship", None])
    message = refusal(source(folder))
    assert "2 of 4 pairs of the split 'test' have no label" in message
    assert "test_path" in message


def test_a_shard_that_is_none_or_truncated_is_refused(
    tmp_path: Path, jpeg: Jpeg, shard: Shard
) -> None:
    path = shard(tmp_path / "mine.tar", members(jpeg, range(40)))
    complete = path.read_bytes()
    with tarfile.open(path) as archive:
        header = archive.getmember("row-20.jpg").offset
    damaged = complete[:header] + bytes([complete[header] ^ 1]) + complete[header + 1 :]
    for content in (
        b"no archive",
        damaged,
        complete[:header],
        complete[: header + 99],
        complete[: header + 520],
    ):
        path.write_bytes(content)
        assert f"{path} cannot be read as tar" in refusal(source(path))


def test_a_member_that_occurs_twice_or_is_not_utf_8_is_refused(
    tmp_path: Path, jpeg: Jpeg, shard: Shard
) -> None:
    samples = members(jpeg, range(40))
    for more, message in (
        ({"row-3.png": jpeg(1)}, "an image of row-3 twice"),
        ({"./row-3.TXT": b"x"}, "row-3.txt of row-3 twice"),
        ({"row-3.input.jpg": jpeg(1)}, "an image of row-3 twice"),
        ({"row-90.jpg": jpeg(1), "row-90.txt": b"caf\xe9"}, "the caption is not UTF-8 text"),
        ({"caf\udce9.jpg": jpeg(1)}, "the id is not UTF-8 text"),
    ):
        path = shard(tmp_path / "mine.tar", samples | more)
        assert message in refusal(source(path))


@pytest.mark.parametrize(
    ("lost", "message"),
    [("jpg", "the image is null"), ("txt", "the caption is empty")],
)
def test_a_sample_of_a_shard_that_lacks_a_part_is_named(
    tmp_path: Path, jpeg: Jpeg, shard: Shard, lost: str, message: str
) -> None:
    samples = members(jpeg, range(40))
    del samples[f"row-3.{lost}"]
    path = shard(tmp_path / "mine.tar", samples)
    assert f"{path}, row 3 (id 'row-3'): {message}" in refusal(source(path))


def test_a_path_without_pairs_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "mine", [("1", "1.jpg", "a frog", "frog")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"id,image")
    for path, message in (
        (tmp_path / "nowhere", "nowhere cannot be read as pairs: it does not exist"),
        (folder / "pairs.csv", "a folder that holds a CSV file and its images"),
        (tmp_path / "empty", "holds no pairs"),
        (tmp_path / "bad.parquet", "bad.parquet cannot be read as parquet"),
    ):
        assert message in refusal(source(path))


def test_a_folder_of_splits_and_other_files_is_refused(write: Write) -> None:
    folder = write("mine/train.parquet", 4).parent
    write("mine/extra.parquet", 4)
    assert "extra.parquet" in refusal(source(folder))


def test_pairs_without_training_pairs_are_refused(write: Write) -> None:
    path = write("test.parquet", 4)
    message = refusal(UserPairs(classes=CLASSES, test_path=str(path)))
    assert "set path (a file or folder) or train_path. Splits with files: test." in message


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("../1.jpg", "the image '../1.jpg' is not inside"),
        ("/1.jpg", "the image '/1.jpg' is not inside"),
        ("gone.jpg", "no image"),
    ],
)
def test_an_image_that_a_csv_file_names_is_in_its_folder(
    tmp_path: Path, image: str, reason: str
) -> None:
    folder = write_csv(tmp_path, [("1", image, "a frog", "frog")])
    assert f"row 0 (id '1'): {reason}" in refusal(source(folder))


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({"classes": ("frog",)}, "two or more"),
        ({"classes": ("frog", "frog")}, "two or more"),
        ({"prompts": ()}, "prompts is empty"),
        ({"prompts": ("a photo",)}, "prompt 'a photo' needs one {}"),
        ({"prompts": ("{} or {}",)}, "prompt '{} or {}' needs one {}"),
    ],
)
def test_classes_differ_and_prompts_have_one_place_for_a_class(
    write: Write, vocabulary: dict[str, Any], message: str
) -> None:
    assert message in refusal(source(write("mine.parquet", 40), **vocabulary))


# Real photographs


@pytest.mark.skipif(not PHOTOS.exists(), reason="data/photos is not linked (see the README)")
def test_photographs_of_the_trial_folder_become_a_corpus() -> None:
    classes = ("airplane", "automobile", "bird", "cat", "deer")
    pairs = UserPairs(classes=(*classes, "dog", "frog", "horse", "ship", "truck"), path=str(PHOTOS))
    assert sizes(pairs) == {"train": 17000, "trusted": 1000, "val": 2000, "test": 5000}
