"""What users have, through the command that they type: read, left out and counted, or one line."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import clipmend
from clipmend import cli
from clipmend.data.images import decode
from clipmend.data.pairs import SPLITS, read_pairs
from clipmend.engine import locks, params, plan, presets
from clipmend.errors import ClipmendError
from clipmend.model import arithmetic

CLASSES = ["frog", "ship"]
SIZES = {"trusted": 2, "val": 3, "test": 3}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"

Jpeg = Callable[[int], bytes]
Shard = Callable[[Path, Mapping[str, bytes]], Path]


@dataclass
class Project:
    """A folder with ``params.yaml``, whose corpus ``mine`` is the user's own."""

    folder: Path
    command: Callable[..., tuple[int, str]]

    def key(self, **settings: Any) -> str:
        """Plan a run, as the Snakefile does, and return the key of the corpus."""
        values = presets.values(presets.preset("smoke"))
        own = {"source": "pairs", "path": "mine", "classes": CLASSES} | SIZES | settings
        values["download"] = {"corpora": ["mine"], "settings": {"mine": own}}
        values["poison"]["target"] = "ship"
        Path("params.yaml").write_text(yaml.safe_dump(values))
        return plan.arrange().cells["download/mine"].key

    def download(self, **settings: Any) -> tuple[int, str]:
        """Make the corpus and return the exit code and what was printed."""
        self.key(**settings)
        return self.command("download", "mine")

    def captions(self) -> dict[str, str]:
        """Return the captions of all splits by id."""
        made = Path("results/download/mine")
        tables = [read_pairs(made / f"{name}.parquet") for name in SPLITS]
        rows = [row for table in tables for row in table.to_pylist()]
        return {row["id"]: row["caption"] for row in rows}

    def bad(self) -> dict[str, Any]:
        ledger = Path("results/download/mine/bad_rows.json")
        return json.loads(ledger.read_text()) if ledger.exists() else {"bad_rows": []}

    def reasons(self) -> dict[tuple[str, int], str]:
        rows = self.bad()["bad_rows"]
        return {(Path(row["file"]).name, row["row"]): row["reason"] for row in rows}


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "hold_main", lambda: None)
    for name in ("prepare", "start"):  # numpy and torch are loaded already
        monkeypatch.setattr(arithmetic, name, lambda *_: None)

    def command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["clipmend", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return Project(tmp_path, command)


def columns(jpeg: Jpeg, count: int = 40) -> dict[str, list[Any]]:
    return {
        "id": [f"row-{row}" for row in range(count)],
        "image": [jpeg(row) for row in range(count)],
        "caption": [f"a photo of a {CLASSES[row % 2]}" for row in range(count)],
        "label": [CLASSES[row % 2] for row in range(count)],
    }


def members(jpeg: Jpeg, count: int = 20) -> dict[str, bytes]:
    shard: dict[str, bytes] = {}
    for row in range(count):
        label = CLASSES[row % 2].encode()
        shard |= {f"{row:03d}.jpg": jpeg(row), f"{row:03d}.txt": b"a " + label}
        shard[f"{row:03d}.cls"] = label
    return shard


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def text_of_bytes(values: list[bytes]) -> pa.Array:
    """Return text whose encoding nobody checked."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


# A. Rows that cannot be used


def test_bad_rows_of_parquet_are_left_out_counted_and_listed(project: Project, jpeg: Jpeg) -> None:
    rows = columns(jpeg)
    rows["image"][3] = None
    rows["image"][5] = jpeg(5)[:-40]
    rows["image"][6] = encoded(Image.new("RGB", (4000, 1)))
    captions = [text.encode() for text in rows["caption"]]
    captions[4], captions[7], captions[9] = b"caf\xe9", None, b"  "
    table = pa.table({**rows, "caption": text_of_bytes(captions)})
    pq.write_table(table, "mine/x.parquet")
    status, printed = project.download()
    assert status == 0, printed
    assert len(project.captions()) == 34
    reasons = project.reasons()
    assert {row for _, row in reasons} == {3, 4, 5, 6, 7, 9}
    assert reasons["x.parquet", 4] == "the caption is not UTF-8 text"
    assert "4000 x 1" in reasons["x.parquet", 6]
    assert project.bad()["share"] == 0.15
    assert "download/mine: 6 of 40 rows (15.0%) cannot be" in project.command("status")[1]
    status, printed = project.download(on_bad_rows="refuse")
    assert status == 2
    assert printed.count("\n") == 1
    assert "row 3 (id 'row-3'): the image is null" in printed
    assert "(6 of 40 rows cannot be used)" in printed


def test_too_many_bad_rows_are_refused_with_their_share(project: Project, jpeg: Jpeg) -> None:
    rows = columns(jpeg)
    rows["image"][:20] = [b"no image"] * 20
    pq.write_table(pa.table(rows), "mine/x.parquet")
    status, printed = project.download()
    assert (status, printed.count("\n")) == (2, 1)
    assert "(20 of 40 rows cannot be used); max_bad_share allows 25%" in printed
    assert project.download(max_bad_share=0.5)[0] == 0
    assert len(project.captions()) == 20


def test_a_row_without_an_id_is_left_out(project: Project, jpeg: Jpeg) -> None:
    rows = columns(jpeg)
    rows["id"][1], rows["id"][2] = None, ""
    pq.write_table(pa.table(rows), "mine/x.parquet")
    assert project.download()[0] == 0
    assert project.reasons() == {("x.parquet", row): "the id is empty" for row in (1, 2)}


def test_bad_samples_of_a_shard_are_left_out(project: Project, jpeg: Jpeg, shard: Shard) -> None:
    samples = members(jpeg) | {"003.txt": b"", "004.txt": b"caf\xe9", "caf\udce9.jpg": jpeg(1)}
    del samples["007.jpg"]
    shard(Path("mine/0.tar"), samples)
    assert project.download()[0] == 0
    assert len(project.captions()) == 17
    reasons = project.reasons()
    assert reasons["0.tar", 3] == "the caption is empty"
    assert reasons["0.tar", 4] == "the caption is not UTF-8 text"
    assert reasons["0.tar", 7].startswith("the image is null")
    assert reasons["0.tar", 20] == "the id is not UTF-8 text"


def test_a_caption_may_stand_in_the_json_of_a_sample_alone(
    project: Project, jpeg: Jpeg, shard: Shard
) -> None:
    samples = members(jpeg)
    for row in (2, 3, 4):
        del samples[f"{row:03d}.txt"]
    samples |= {"002.json": b'{"caption": "two", "url": "x"}', "003.json": b"{", "004.json": b"[]"}
    shard(Path("mine/0.tar"), samples)
    assert project.download()[0] == 0
    assert project.captions()["002"] == "two"
    assert set(project.reasons().values()) == {"the caption is empty"}
    assert len(project.captions()) == 18


def test_a_caption_of_no_letters_of_half_a_letter_or_of_a_million_is_left_out(
    project: Project, jpeg: Jpeg, shard: Shard
) -> None:
    samples = members(jpeg)
    del samples["002.txt"]
    samples |= {"002.json": b'{"caption": "\\ud800"}', "003.txt": "\u200b\0\u3000".encode()}
    samples |= {"004.txt": b"qz" * 500_000, "005.cls": b"\xef\xbb\xbffrog\n"}
    shard(Path("mine/0.tar"), {f"../{name}": data for name, data in samples.items()})
    assert project.download()[0] == 0
    assert project.reasons() == {
        ("0.tar", 2): "the caption is not UTF-8 text",
        ("0.tar", 3): "the caption is empty",
        ("0.tar", 4): "the caption has 1,000,000 letters; at most 10,000 are allowed",
    }
    assert len(project.captions()) == 17


@pytest.mark.parametrize("labels", [[["frog"]] * 40, [{"name": "frog"}] * 40, [True, False] * 20])
def test_a_label_that_only_resembles_a_class_is_refused(
    labels: list[Any], project: Project, jpeg: Jpeg
) -> None:
    pq.write_table(pa.table(columns(jpeg) | {"label": labels}), "mine/x.parquet")
    status, printed = project.download()
    assert (status, printed.count("\n")) == (2, 1), printed
    assert f"the label {labels[0]!r} is not a class; classes: frog, ship." in printed


def test_values_that_python_does_not_have_are_one_line(project: Project, jpeg: Jpeg) -> None:
    ids = pa.array([2**60 + row for row in range(40)], pa.timestamp("us"))
    pq.write_table(pa.table(columns(jpeg) | {"id": ids}), "mine/x.parquet")
    status, printed = project.download()
    assert (status, printed.count("\n")) == (2, 1), printed
    assert "mine/x.parquet cannot be read as parquet: " in printed
    ids = pa.array([0.5, float("nan"), *map(float, range(38))])
    pq.write_table(pa.table(columns(jpeg) | {"id": ids}), "mine/x.parquet")
    assert project.download()[0] == 0
    assert project.reasons() == {("x.parquet", 1): "the id is empty"}


def test_rows_of_a_csv_that_cannot_be_used_are_left_out(project: Project, jpeg: Jpeg) -> None:
    lines = ["id,image,caption,label"]
    for row in range(20):
        Path(f"mine/{row}.jpg").write_bytes(jpeg(row))
        lines.append(f"{row},{row}.jpg,a frog,{CLASSES[row % 2]}")
    lines[5] = "4,4.jpg"
    lines[8] = "7,gone.jpg,a frog,frog"
    Path("mine/x.csv").write_bytes("\n".join(lines).encode().replace(b"9,9.jpg,a", b"9,9.jpg,\xe9"))
    assert project.download()[0] == 0
    reasons = project.reasons()
    assert reasons["x.csv", 4] == "it has 2 columns, not 4"
    assert "no image mine/gone.jpg" in reasons["x.csv", 7]
    assert "UTF-8" in reasons["x.csv", 9]
    assert set(project.captions()) == {str(row) for row in range(20)} - {"4", "7", "9"}


def test_a_hard_link_in_a_shard_and_a_missing_number_lose_no_row(
    project: Project, jpeg: Jpeg, shard: Shard
) -> None:
    path = shard(Path("mine/train-0.tar"), members(jpeg))
    with tarfile.open(path, "a") as archive:
        for name, target in (("100.jpg", "001.jpg"), ("100.txt", "001.txt")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            archive.addfile(link)
    rows = columns(jpeg, 4)
    pq.write_table(pa.table(columns(jpeg) | {"label": [0.0, float("nan")] * 20}), "x.parquet")
    pq.write_table(pa.table(rows | {"id": list("abcd")}), "val.parquet")
    pq.write_table(pa.table(rows | {"id": list("efgh")}), "test.parquet")
    others = {"val_path": "val.parquet", "test_path": "test.parquet"}
    assert project.download(**others)[0] == 0
    assert project.captions()["100"] == "a ship"
    assert len(project.captions()) == 29
    assert project.download(path="x.parquet", **others)[0] == 0
    assert len(project.captions()) == 48


# B. Files without data


def test_what_is_not_read_is_in_no_key(project: Project, jpeg: Jpeg, shard: Shard) -> None:
    pq.write_table(pa.table(columns(jpeg)), "mine/x.parquet")
    shard(Path("wds/0.tar"), members(jpeg))
    Path("list").mkdir()
    Path("list/x.csv").write_text("id,image,caption,label\n")
    for path in ("mine", "wds", "list"):
        before = project.key(path=path)
        for name in (".DS_Store", "Thumbs.db", "._x.parquet", "._x.tar", "README.md", ".x.csv"):
            Path(path, name).write_bytes(b"junk")
        Path(path, ".ipynb_checkpoints").mkdir()
        Path(path, ".ipynb_checkpoints/x.parquet").write_bytes(b"junk")
        Path(path, ".gone").symlink_to("nowhere")
        assert project.key(path=path) == before
        Path(path, {"mine": "y.parquet", "wds": "1.tar", "list": "1.jpg"}[path]).write_bytes(b"new")
        assert project.key(path=path) != before


def test_a_split_is_named_anywhere_in_a_files_name(
    project: Project, jpeg: Jpeg, shard: Shard
) -> None:
    shard(Path("mine/cc3m-train-0000.tar"), members(jpeg))
    others = {f"v{name}": data for name, data in members(jpeg, 4).items()}
    shard(Path("mine/cc3m-validation-0000.tar"), others)
    for settings in ({}, {"path": None, "train_path": "mine", "val_path": "mine"}):
        assert project.download(**settings)[0] == 0
        made = Path("results/download/mine")
        assert read_pairs(made / "val.parquet")["id"].to_pylist() == [f"v{n:03d}" for n in range(4)]
        assert all("v" not in row for row in read_pairs(made / "train.parquet")["id"].to_pylist())
    status, printed = project.download(path=None, train_path="mine", trusted_path="mine")
    assert status == 2
    assert "mine is given for trusted, but its files are named after train, val" in printed


@pytest.mark.parametrize("name", ["dev", "valid", "Validation", "x_val_1", "data.val"])
def test_a_file_of_another_split_is_never_trained_on(
    project: Project, jpeg: Jpeg, name: str
) -> None:
    pq.write_table(pa.table(columns(jpeg)), "mine/training.parquet")
    held_out = columns(jpeg, 4)
    pq.write_table(pa.table({**held_out, "id": list("abcd")}), f"mine/{name}.parquet")
    assert project.download()[0] == 0
    assert pq.read_metadata("results/download/mine/val.parquet").num_rows == 4


def test_a_link_that_leads_nowhere_or_back_is_named(project: Project, jpeg: Jpeg) -> None:
    pq.write_table(pa.table(columns(jpeg)), "mine/x.parquet")
    project.key()
    Path("mine/y.parquet").symlink_to("/nowhere/y.parquet")
    line = "clipmend: mine/y.parquet is a link to /nowhere/y.parquet, which does not exist; "
    for command in ("status", "estimate"):
        status, printed = project.command(command)
        assert (status, printed.count("\n")) == (2, 1)
        assert printed.startswith(line)
    Path("mine/y.parquet").unlink()
    Path("mine/x.parquet").unlink()
    Path("mine/x.csv").write_text("id,image,caption,label\n")
    Path("mine/loop").symlink_to(".")
    assert "mine/loop is a link to a folder that holds it" in project.command("status")[1]


@pytest.mark.parametrize("name", ["y.parquet", "y.parquet.gz", "y.csv.gz"])
def test_what_has_the_name_of_pairs_and_cannot_be_read_is_refused(
    name: str, project: Project, jpeg: Jpeg
) -> None:
    pq.write_table(pa.table(columns(jpeg)), "mine/x.parquet")
    project.key()
    Path("mine", name).mkdir() if name == "y.parquet" else Path("mine", name).write_bytes(b"x")
    status, printed = project.command("status")
    assert (status, printed.count("\n")) == (2, 1), printed
    assert f"clipmend: mine/{name} is " in printed


def test_shards_that_were_joined_lose_no_row_and_what_follows_the_end_is_refused(
    project: Project, jpeg: Jpeg, shard: Shard
) -> None:
    whole = list(members(jpeg, 30).items())
    parts = [
        shard(project.folder / f"{at}.tar", dict(whole[at : at + 30])).read_bytes()
        for at in range(0, 90, 30)
    ]
    joined = project.folder / "mine" / "joined.tar"
    # tarfile fills the last of its 10,240 bytes with zeros; others write the two blocks alone.
    short = [part.rstrip(b"\0") for part in parts]
    whole_blocks = [part + bytes(-len(part) % 512 + 1024) for part in short]
    for written in (parts, whole_blocks, [parts[0], bytes(2**21), *parts[1:]]):
        joined.write_bytes(b"".join(written))
        assert project.download()[0] == 0
        assert set(project.captions()) == {f"{row:03d}" for row in range(30)}
    for behind in (b"junk" * 500, parts[1][1:], parts[1][: len(short[1]) // 2]):
        joined.write_bytes(parts[0] + behind)
        status, printed = project.download()
        assert status == 2
        assert "mine/joined.tar cannot be read as tar: " in printed


@pytest.mark.parametrize("name", ["x.parquet", "x.tar"])
def test_a_pointer_of_git_lfs_is_told_from_damage(name: str, project: Project) -> None:
    Path("mine", name).write_bytes(POINTER)
    status, printed = project.download()
    assert status == 2
    assert f"mine/{name} cannot be read as {name[2:]}: it is a pointer of Git LFS; run" in printed


# C. Pictures


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_a_picture_of_16_bits_is_scaled_to_8(form: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    decoded = np.asarray(decode(encoded(Image.fromarray(ramp), form), 64))
    assert np.abs(decoded[..., 0] - ramp / 256).max() <= 1


def test_levels_of_unknown_range_are_refused() -> None:
    levels = np.full((8, 8), 300, np.int32)
    for array in (levels, levels.astype(np.float32), np.full((8, 8), np.nan, np.float32)):
        with pytest.raises(ClipmendError, match="its levels"):
            decode(encoded(Image.fromarray(array), "TIFF"), 8)
    half = np.full((8, 8), 0.5, np.float32)
    assert np.asarray(decode(encoded(Image.fromarray(half), "TIFF"), 8)).max() == 128


# D. Shards and columns


def test_points_in_names_of_a_shard_lose_no_sample(
    project: Project, jpeg: Jpeg, shard: Shard
) -> None:
    samples = members(jpeg, 10)
    for row in range(6):  # as webdataset has it, and with a text of the full name
        stem, text = f"x{row}", f"x{row}.input" if row < 3 else f"x{row}"
        samples |= {f"{stem}.input.jpg": jpeg(row), f"{text}.txt": b"a frog"}
        samples[f"{text}.cls"] = b"frog"
    shard(Path("mine/0.tar"), samples)
    assert project.download()[0] == 0
    assert len(project.captions()) == 16
    shard(Path("mine/0.tar"), samples | {"x5.target.jpg": jpeg(1)})
    status, printed = project.download()
    assert status == 2
    assert "it has an image of x5 twice" in printed


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string(), pa.binary(), "dictionary"])
def test_text_columns_of_every_kind_are_read(project: Project, jpeg: Jpeg, kind: Any) -> None:
    table = pa.table(columns(jpeg))
    for at, name in enumerate(table.column_names):
        column = table[name]
        if name == "image":
            column = column.cast(pa.binary_view() if kind == pa.string_view() else pa.binary())
        elif kind == "dictionary":
            column = column.dictionary_encode()
        else:
            column = column.cast(kind)
        table = table.set_column(at, name, column)
    pq.write_table(table, "mine/x.parquet")
    status, printed = project.download()
    assert status == 0, printed
    assert len(project.captions()) == 40


def test_the_parameters_can_be_read_or_one_line_says_why(project: Project) -> None:
    project.key(path=None, train_path=str(project.folder / "mine"))
    text = Path("params.yaml").read_text()
    for data in (text.encode("utf-16"), text.encode("utf-16-le"), b"# caf\xe9\n" + text.encode()):
        Path("params.yaml").write_bytes(data)
        status, printed = project.command("status")
        assert (status, printed.count("\n")) == (2, 1), printed
    Path("params.yaml").unlink()
    Path("params.yaml").mkdir()
    for words in (("status",), ("preset", "smoke"), ("preset", "smoke", "--force")):
        status, printed = project.command(*words)
        assert (status, printed.count("\n")) == (2, 1), printed
    assert params.PARAMS.is_dir()


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
PLAN = "from clipmend.engine import plan; print(plan.arrange().cells['download/mine'].key)"


def test_a_key_and_its_card_do_not_depend_on_the_locale(project: Project, jpeg: Jpeg) -> None:
    rows = columns(jpeg)
    rows["label"] = ["café" if label == "frog" else label for label in rows["label"]]
    pq.write_table(pa.table(rows), "mine/x.parquet")
    assert project.download(classes=["café", "ship"])[0] == 0
    key = project.key(classes=["café", "ship"])
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("caf\\xE9", "café"))
    assert "café" in Path("params.yaml").read_text()
    source = str(Path(clipmend.__file__).parents[1])
    environment = {**os.environ, **ASCII, "PYTHONPATH": source}
    process = [sys.executable, "-c", PLAN]
    assert subprocess.check_output(process, env=environment, text=True).strip() == key
    made = [sys.executable, "-m", "clipmend", "download", "mine"]
    done = subprocess.run(made, env=environment, text=True, capture_output=True, check=True)
    assert "is up to date" in done.stderr
    assert key in json.loads(Path("results/download/mine/card.json").read_bytes())["key"]
