# ruff: noqa: E501  (tables of oddities, one a line)
"""Pairs in every format, with oddities drawn by seed, and what each must come to.

An oddity of a row says whether the row can be used; one of a file says whether all is refused.
"""

import csv
import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, features

from clipmend.data.images import decode
from clipmend.errors import PairsError

CLASSES = ("frog", "ship")
FORMATS = ("parquet", "tar", "csv")
_NAME = "photos"  # of the file; rows without ids are numbered after it


@dataclass
class Row:
    """A row before it is written; None leaves a part out."""

    id: str | None
    image: bytes | None
    caption: bytes | None
    label: str | None
    is_bad: bool = False
    json: bytes | None = None  # of a shard, in place of the caption
    columns: int = 0  # more or fewer of a CSV line
    path: str | None = None  # of the image that a CSV line names; None: one of its own


@dataclass
class Pairs:
    """Files of pairs with what their reader must make of them.

    Attributes:
        refused: whether no row may be used; None: either, but what is used is counted.
    """

    path: Path
    rows: list[Row]
    form: str = "parquet"
    refused: bool | None = False
    others: int = 0  # pairs of another split
    kind: str = ""  # how the files are odd
    rows_done: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return what is odd."""
        return f"{self.form}, {self.kind}, {self.rows_done}"


# Images


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def _turned(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(number), "JPEG", exif=exif)


def _moving(number: int, form: str) -> bytes:
    frames = [picture(number + step) for step in range(3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


def _bomb(_: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def _levels(values: Any, dtype: str) -> Image.Image:
    return Image.fromarray(np.resize(np.array(values), (8, 12)).astype(dtype))


USABLE: dict[str, Callable[[int], bytes]] = {
    "gray": lambda n: encoded(picture(n, "L")),
    "one bit": lambda n: encoded(picture(n, "1")),
    "palette": lambda n: encoded(picture(n, "P"), "GIF"),
    "alpha": lambda n: encoded(picture(n, "RGBA")),
    "gray alpha": lambda n: encoded(picture(n, "LA")),
    "CMYK": lambda n: encoded(picture(n, "CMYK"), "JPEG"),
    "16 bits": lambda _: encoded(_levels(range(0, 65_535, 700), "uint16")),
    "16 bits, TIFF": lambda _: encoded(_levels(range(0, 65_535, 700), "uint16"), "TIFF"),
    "float": lambda _: encoded(_levels([0, 0.5, 1], "float32"), "TIFF"),
    "turned": _turned,
    "animated GIF": lambda n: _moving(n, "GIF"),
    "animated PNG": lambda n: _moving(n, "PNG"),
    "pages": lambda n: _moving(n, "TIFF"),
    "one pixel": lambda n: encoded(picture(n, size=(1, 1))),
    "long": lambda n: encoded(picture(n, size=(50, 1))),
    "progressive": lambda n: encoded(picture(n), "JPEG", progressive=True),
    "bitmap": lambda n: encoded(picture(n), "BMP"),
    "WebP": lambda n: encoded(picture(n), "WEBP" if features.check("webp") else "PNG"),
    "junk behind": lambda n: encoded(picture(n), "JPEG") + b"junk" * 50,
}
UNUSABLE: dict[str, Callable[[int], bytes]] = {
    "no bytes": lambda _: b"",
    "text": lambda _: b"no image",
    "a page": lambda _: b"<!DOCTYPE html><html><title>404</title></html>",
    "zeros": lambda _: bytes(2_000),
    "half": lambda n: (whole := encoded(picture(n), "JPEG"))[: len(whole) // 2],
    "half a PNG": lambda n: (whole := encoded(picture(n)))[: len(whole) // 2],
    "a line": lambda n: encoded(picture(n, size=(4000, 1))),
    "a bomb": _bomb,
    "a drawing": lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "a document": lambda _: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "beyond 1": lambda _: encoded(_levels([0, 2.5, 9], "float32"), "TIFF"),
    "32 bits": lambda _: encoded(_levels([-5, 99_999], "int32"), "TIFF"),
}


def _flipped(draw: Random, number: int) -> bytes:
    """Return an image with some bytes changed, of which its decoder may think what it wants."""
    form = draw.choice(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "TGA", "PCX", "PPM", "DDS"])
    data = bytearray(encoded(picture(number), form))
    for _ in range(draw.randint(1, 12)):
        data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
    return bytes(data)


def is_readable(image: bytes) -> bool:
    """Return what the reader of images says of some bytes; any other error is a failure."""
    try:
        decode(image, 1)
    except PairsError:
        return False
    return True


# Captions

READABLE = (
    *(
        "\ufeffa frog",
        "a\0frog",
        "🐸🚢 emoji 👩‍👩‍👧",
        "صورة ضفدع",
        "a frog\n\ton a ship\r\n",
        "nan",
        "None",
        "-1",
    ),
    *(
        "{} {0} %s",
        "$\\frac{x}$",
        "[red]a frog[/red]",
        "\x1b[31ma frog\x1b[0m",
        "!!!",
        "<b>a frog</b>",
    ),
    *(
        "'; DROP TABLE frogs; --",
        '"quoted", with commas',
        "a " * 4_000,
        "x" * 900,
        "蛙",
        "a\u200dfrog",
    ),
)
EMPTY = ("", " ", "\t\n", "\u00a0", "\u3000\u2003", "\ufeff", "\u200b", "\0")
WRONG = (b"caf\xe9", b"\xff\xfea\0", b"\xed\xa0\x80 half a letter", b"\x80")
FOREIGN = (b'{"caption": ["a", "b"]}', b'{"caption": 7}', b'{"caption": null}', b"{", b"[1]",
           b'{"caption": "\\ud800"}', b'{"other": "a frog"}', b"[" * 100_000)  # fmt: skip


Change = Callable[[Random, Row, int], object]


def _put(part: str, make: Callable[[Random, int], Any]) -> Change:
    return lambda draw, row, number: setattr(row, part, make(draw, number))


def _one(choices: tuple[Any, ...]) -> Callable[[Random, int], Any]:
    return lambda draw, _: draw.choice(choices)


def _foreign(draw: Random, row: Row, _: int) -> None:
    row.caption, row.json = None, draw.choice(FOREIGN)


PATHS = ("none.png", "../x.png", "/etc/hostname", ".x.png", "x.txt", "folder", "a\0b")
ROW: dict[str, tuple[Change, bool | None]] = {
    "image": (_put("image", lambda draw, n: draw.choice(list(USABLE.values()))(n)), False),
    "bad image": (_put("image", lambda draw, n: draw.choice(list(UNUSABLE.values()))(n)), True),
    "flipped": (_put("image", _flipped), None),
    "caption": (_put("caption", _one(tuple(text.encode() for text in READABLE))), False),
    "empty": (_put("caption", _one(tuple(text.encode() for text in EMPTY))), True),
    "bytes": (_put("caption", _one(WRONG)), True),
    "huge": (_put("caption", _one((b"qzxj" * 250_000, b"a frog " * 150_000))), True),
    "no image": (_put("image", _one((None,))), True),
    "no caption": (_put("caption", _one((None,))), True),
    "no id": (_put("id", _one((None, ""))), True),
    "json": (_foreign, True),
    "line": (_put("columns", _one((-1, 1))), True),
    "path": (_put("path", _one(PATHS)), True),
}
"""How a row is odd -> a change, and whether it cannot be used then; None: its decoder says it."""

_OWN = {"parquet": ("no id",), "tar": ("json",), "csv": ("line", "path")}


def damage(draw: Random, row: Row, form: str, number: int) -> str:
    """Make one row odd, and say how."""
    others = {kind for kinds in _OWN.values() for kind in kinds} - {*_OWN[form]}
    kind = draw.choice([kind for kind in ROW if kind not in others])
    change, is_bad = ROW[kind]
    change(draw, row, number)
    row.is_bad = not is_readable(row.image or b"") if is_bad is None else is_bad
    return kind


# Files


def _text(values: list[bytes | None]) -> pa.Array:
    """Return text whose encoding nobody checked."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def write_parquet(file: Path, rows: list[Row], group: int = 1000) -> None:
    columns = {
        "id": _text([_bytes(row.id) for row in rows]),
        "image": pa.array([row.image for row in rows], pa.binary()),
        "caption": _text([row.caption for row in rows]),
        "label": pa.array([row.label for row in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), file, row_group_size=group)


def write_tar(file: Path, rows: list[Row], prefix: str = "", upper: bool = False) -> None:
    with tarfile.open(file, "w") as archive:
        for row in rows:
            members = {
                "png": row.image,
                "txt": row.caption,
                "json": row.json,
                "cls": _bytes(row.label),
            }
            for suffix, data in members.items():
                if data is not None:
                    suffix = suffix.upper() if upper else suffix
                    add(archive, f"{prefix}{row.id}.{suffix}", data)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_csv(file: Path, rows: list[Row], start: bytes = b"", end: str = "\n") -> None:
    folder = file.parent
    (folder / "folder").mkdir(exist_ok=True)
    for name in (".x.png", "x.txt"):
        (folder / name).write_bytes(encoded(picture(0)))
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator=end)
    writer.writerow(["id", "image", "caption", "label"])
    for row in rows:
        path = row.path
        if path is None:
            path = f"{row.id}.png"
            (folder / path).write_bytes(row.image or b"")
        caption = (row.caption or b"").decode(errors="surrogateescape")
        cells = [row.id, path, caption, row.label, "more"]
        writer.writerow(cells[: 4 + row.columns])
    text = lines.getvalue().encode(errors="surrogateescape")
    file.write_bytes(start + text)


WRITE: dict[str, Callable[..., None]] = {
    "parquet": write_parquet,
    "tar": write_tar,
    "csv": write_csv,
}


def plain(number: int) -> Row:
    label = CLASSES[number % 2]
    return Row(
        f"row-{number:03d}", encoded(picture(number)), f"a photo of a {label}".encode(), label
    )


def draw_pairs(draw: Random, folder: Path, form: str, count: int = 80) -> Pairs:
    """Write pairs of a format with oddities into a new folder."""
    folder.mkdir()
    rows = [plain(number) for number in range(count)]
    pairs = Pairs(folder, rows, form)
    odd = draw.sample(range(count), draw.choice((0, 1, 3, 8, 15, 30)))
    pairs.rows_done = sorted({damage(draw, rows[n], form, n) for n in odd})
    pairs.kind = draw.choice(list(FILE[form]))
    FILE[form][pairs.kind](draw, pairs)
    return pairs


def _plain(form: str, name: str = "", **options: Any) -> Callable[[Random, Pairs], None]:
    def write(_: Random, pairs: Pairs) -> None:
        WRITE[form](pairs.path / (name or f"{_NAME}.{form}"), pairs.rows, **options)

    return write


def _beside(
    form: str, put: Callable[[Path], object], refused: bool | None
) -> Callable[[Random, Pairs], None]:
    """Return a writer of good files with something else beside them."""

    def write(draw: Random, pairs: Pairs) -> None:
        _plain(form)(draw, pairs)
        put(pairs.path)
        pairs.refused = refused

    return write


def _spoiled(form: str, spoil: Callable[[bytes], bytes]) -> Callable[[Random, Pairs], None]:
    def write(draw: Random, pairs: Pairs) -> None:
        _plain(form)(draw, pairs)
        file = pairs.path / f"{_NAME}.{form}"
        file.write_bytes(spoil(file.read_bytes()))
        pairs.refused = True

    return write


def _table(
    change: Callable[[pa.Table], pa.Table], refused: bool | None
) -> Callable[[Random, Pairs], None]:
    """Return a writer of a parquet file whose table was changed; its rows are good."""

    def write(_: Random, pairs: Pairs) -> None:
        pairs.rows = [plain(number) for number in range(len(pairs.rows))]
        pairs.rows_done, pairs.refused = [], refused
        file = pairs.path / f"{_NAME}.parquet"
        write_parquet(file, pairs.rows)
        pq.write_table(change(pq.read_table(file)), file)

    return write


def _with(
    name: str, make: Callable[[int], Any], kind: Any = None
) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = make(len(table))
        column = values if isinstance(values, pa.Array) else pa.array(values, kind)
        return table.set_column(table.column_names.index(name), name, column)

    return change


def _mutated(form: str) -> Callable[[Random, Pairs], None]:
    """Return a writer of a file with bytes changed anywhere: it is refused, or read as it is."""

    def write(draw: Random, pairs: Pairs) -> None:
        _plain(form)(draw, pairs)
        file = pairs.path / f"{_NAME}.{form}"
        data = bytearray(file.read_bytes())
        for _ in range(draw.randint(1, 30)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data)
        pairs.refused = None
        pairs.rows = []

    return write


def _two_files(form: str) -> Callable[[Random, Pairs], None]:
    def write(_: Random, pairs: Pairs) -> None:
        WRITE[form](pairs.path / f"a.{form}", pairs.rows[:30])
        WRITE[form](pairs.path / f"b.{form}", pairs.rows[30:])

    return write


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "part-0.parquet").write_bytes(b"")


def _repeated(_: Random, pairs: Pairs) -> None:
    for row in pairs.rows[:2]:
        row.id, row.is_bad, row.image, row.caption = (
            "row-000",
            False,
            encoded(picture(0)),
            b"a frog",
        )
    write_parquet(pairs.path / f"{_NAME}.parquet", pairs.rows)
    pairs.refused = True


def _structs(_: Random, pairs: Pairs) -> None:
    """Write the images as the hub's data sets have them."""
    file = pairs.path / f"{_NAME}.parquet"
    write_parquet(file, pairs.rows)
    values = [{"bytes": row.image, "path": f"{n}.png"} for n, row in enumerate(pairs.rows)]
    pq.write_table(_with("image", lambda _: values)(pq.read_table(file)), file)


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], None]:
    """Return a function that appends a member to the shard in a folder."""

    def put(folder: Path) -> None:
        with tarfile.open(folder / f"{_NAME}.tar", "a") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member, io.BytesIO(b""))

    return put


def _named(folder: str) -> Callable[[Random, Pairs], None]:
    """Return a writer of train and of another split, which no reader may mix."""

    def write(_: Random, pairs: Pairs) -> None:
        write_parquet(pairs.path / "x-train-0.parquet", pairs.rows)
        other = [Row(f"o-{n}", encoded(picture(n)), b"a frog", "frog") for n in range(9)]
        write_parquet(pairs.path / f"x-{folder}-0.parquet", other)
        pairs.refused, pairs.others = folder == "more", len(other)

    return write


_ANY: dict[str, Callable[[str], Callable[[Random, Pairs], None]]] = {
    "plain": _plain,
    "plainly": _plain,
    "with spaces": lambda form: _plain(form, f"my photos (1).{form}"),
    "with a line end": lambda form: _plain(form, f"two\nlines.{form}"),
    "in letters": lambda form: _plain(form, f"фото été 照片.{form}"),
    "in capitals": lambda form: _plain(form, f"PHOTOS.{form.upper()}"),
    "two files": _two_files,
    "cut": lambda form: _spoiled(form, lambda data: data[: len(data) * 2 // 3] + b'"'),
    "no bytes": lambda form: _spoiled(form, lambda _: b""),
    "of zeros": lambda form: _spoiled(form, lambda _: bytes(4096)),
    "mutated": _mutated,
    "hidden files": lambda form: _beside(form, lambda path: (path / f".x.{form}").write_bytes(b"x"), False),
    "a backup": lambda form: _beside(form, lambda path: (path / f"x.{form}~").write_bytes(b"x"), False),
    "notes": lambda form: _beside(form, lambda path: (path / "README.md").write_bytes(b"x"), False),
    "a dead link": lambda form: _beside(form, lambda path: (path / f"x.{form}").symlink_to("none"), True),
    "a loop": lambda form: _beside(form, lambda path: (path / f"x.{form}").symlink_to(f"x.{form}"), True),
    "a pipe": lambda form: _beside(form, lambda path: os.mkfifo(path / f"x.{form}"), True),
    "a folder of such a name": lambda form: _beside(form, lambda path: _folder(path / f"x.{form}"), True),
    "a packed file": lambda form: _beside(form, lambda path: (path / f"x.{form}.gz").write_bytes(b"x"), True),
    "an empty folder": lambda form: _beside(form, lambda path: (path / "more").mkdir(), False),
}  # fmt: skip
_TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], bool | None]] = {
    "no image column": (lambda table: table.drop_columns("image"), True),
    "no caption column": (lambda table: table.drop_columns("caption"), True),
    "a column twice": (lambda table: table.append_column("caption", table["caption"]), True),
    "no rows": (lambda table: table[:0], True),
    "captions that are lists": (_with("caption", lambda n: [["a", "b"]] * n), True),
    "captions that are numbers": (_with("caption", lambda n: [0.5] * n), True),
    "captions in a dictionary": (_with("caption", lambda n: pa.array(["a frog"] * n).dictionary_encode()), False),
    "captions of polars": (_with("caption", lambda n: ["a frog"] * n, pa.string_view()), False),
    "captions that are times": (_with("caption", lambda n: [2**62 + 1] * n, pa.timestamp("ns")), True),
    "images that are lists": (_with("image", lambda n: [[1, 2, 3]] * n), True),
    "images that are text": (_with("image", lambda n: ["x.png"] * n), True),
    "large images": (_with("image", lambda n: [encoded(picture(1))] * n, pa.large_binary()), False),
    "ids that are numbers": (_with("id", lambda n: list(range(n))), False),
    "ids that are fractions": (_with("id", lambda n: [row + 0.5 for row in range(n)]), False),
    "ids that are lists": (_with("id", lambda n: [[row] for row in range(n)]), False),
    "ids that are far days": (_with("id", lambda n: [2**60 + row for row in range(n)], pa.timestamp("us")), True),
    "ids that are days": (_with("id", lambda n: list(range(n)), pa.date32()), False),
    "a strange column": (lambda t: t.append_column("x", pa.array([2**60] * len(t), pa.timestamp("us"))), False),
    "a nested column": (lambda t: t.append_column("image2", pa.array([{"bytes": [{"a": b"x"}]}] * len(t))), False),
}  # fmt: skip
_LABELS: dict[str, tuple[Callable[[pa.Table], pa.Table], bool | None]] = {
    "labels by number": (_with("label", lambda n: [row % 2 for row in range(n)]), False),
    "labels of pandas": (_with("label", lambda n: [float(row % 2) for row in range(n)]), False),
    "labels, some missing": (_with("label", lambda n: [float(row % 2) for row in range(n - 1)] + [None]), None),
    "labels in a dictionary": (_with("label", lambda n: pa.array(["frog"] * n).dictionary_encode()), False),
    "an unknown label": (_with("label", lambda n: ["frog"] * (n - 1) + ["toad"]), True),
    "a label out of range": (_with("label", lambda n: [0] * (n - 1) + [2]), True),
    "a negative label": (_with("label", lambda n: [0] * (n - 1) + [-1]), True),
    "half a label": (_with("label", lambda n: [0.0] * (n - 1) + [0.5]), True),
    "labels that are lists": (_with("label", lambda n: [["frog"]] * n), True),
    "labels that are structs": (_with("label", lambda n: [{"name": "frog"}] * n), True),
    "labels that are true or false": (_with("label", lambda n: [True, False] * (n // 2)), True),
}  # fmt: skip
FILE: dict[str, dict[str, Callable[[Random, Pairs], None]]] = {
    "parquet": {
        **{name: make("parquet") for name, make in _ANY.items()},
        **{name: _table(*change) for name, change in _TABLES.items()},
        "of text": _spoiled("parquet", lambda _: b"id,image\n1,2\n"),
        "groups of one": _plain("parquet", group=1),
        "images of the hub": _structs,
        "an id twice": _repeated,
        **{f"train and {name}": _named(name) for name in ("validation", "test", "dev", "VAL")},
        "train and more": _named("more"),
    },
    "tar": {
        **{name: make("tar") for name, make in _ANY.items()},
        **{f"below {p!r}": _plain("tar", prefix=p) for p in ("./", "a/b/", "../", "/", "a b/", "é/")},
        "suffixes in capitals": _plain("tar", upper=True),
        "packed": _spoiled("tar", lambda data: b"\x1f\x8b\x08\0" + zlib.compress(data)),
        "a hidden member": _beside("tar", _member("._row-000.png"), False),
        "a folder member": _beside("tar", _member("folder", tarfile.DIRTYPE), False),
        "a link member": _beside("tar", _member("x.bin", tarfile.SYMTYPE, "/etc/passwd"), False),
        "a device member": _beside("tar", _member("device", tarfile.CHRTYPE), False),
        "a member twice": _beside("tar", _member("row-000.txt"), None),
    },
    "csv": {
        **{name: make("csv") for name, make in _ANY.items() if name not in ("mutated", "cut")},
        "a mark before": _plain("csv", start=b"\xef\xbb\xbf"),
        "lines of Windows": _plain("csv", end="\r\n"),
        "in UTF-16": _spoiled("csv", lambda data: data.decode(errors="replace").encode("utf-16")),
        "with semicolons": _spoiled("csv", lambda data: data.replace(b",", b";")),
        "without a head": _spoiled("csv", lambda data: data.partition(b"\n")[2]),
        "a head alone": _spoiled("csv", lambda data: data.partition(b"\n")[0]),
        "a quotation without an end": _spoiled("csv", lambda data: data + b'"x'),
        "a head with spaces": _spoiled("csv", lambda data: data.replace(b",image", b", image", 1)),
    },
}  # fmt: skip
"""Format -> how its files are odd -> a function that writes them."""

BESIDE = ("a dead link", "a loop", "a pipe", "a folder of such a name", "a packed file")
"""What is refused beside good files, and does not matter to a file that is named itself."""

LABELS = {name: _table(*change) for name, change in _LABELS.items()}
"""How the labels of a parquet file are odd, which only a source reads."""
