"""Three hundred edits of ``params.yaml``, from one seed: a plan, or one line that refuses it."""

import copy
import datetime
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipmend.engine import grid, params, presets
from clipmend.engine.index import Index
from clipmend.errors import ClipmendError, line_of

PRESETS = Path(__file__).parents[2] / "params"
DEFAULT = (PRESETS / "default.yaml").read_text()
BASES = [presets.values(PRESETS / f"{name}.yaml") for name in ("default", "smoke")]
EDITS = 300
SECONDS = 5.0
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 10**9 + 1, 10**30, -(10**30), 1.5, 1e308, -0.0),
    *(float("nan"), float("inf"), b"bytes", datetime.date(2020, 1, 1)),
    *("", "x", "{}", "{}{}", "a {} {x}", "../x", "/etc/passwd", "a/b", "ubt@nope", "ubt@", "@"),
    *("\0", "a\nb", "x" * 300, "x" * 5000, "é", "null", "~", "2020-01-01"),
    *([], {}, [[]], [None], ["a", "a"], [1, 1], [0, -1], [10**30], [""], {"a": 1}, {1: 2}),
    *({"scenes": {"source": []}}, {"scenes": {"source": {}}}, {"x": {"source": None}}),
    *({None: None}, {"ubt": 5}, {"ubt@x": {}}, {"nope": {}}, {"ubt": None}, [{}], ["é"]),
]

TEXTS: dict[str, str | bytes] = {
    **{text or "nothing": text for text in ("", "null", "- a", "5", "\tx: 1", "a: b: c")},
    "an object": "!!python/object/apply:os.mkdir [executed]",
    "an unknown tag": f"{DEFAULT}\nx: !foo bar",
    "a list in itself": "&a [*a]",
    "a map in itself": "&a {seeds: *a}",
    "an unknown alias": "seeds: *a",
    "many aliases": "a: &a [x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "aliases of a setting": DEFAULT
    + "\nx: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "baselines: {settings: {ft: {rate: *i}}}\n",
    "many keys": "\n".join(f"a{number}: 1" for number in range(15_000)),
    "a list as key": "? [a]\n: b",
    "a map as key": "? {a: 1}\n: b",
    "a merge of a number": "<<: 5",
    "two documents": f"{DEFAULT}\n---\n{DEFAULT}",
    "deep": "[" * 3000 + "]" * 3000,
    "large": f"{DEFAULT}\n# {'x' * 2_000_000}",
    "no text": b"\xff\xfe\x00",
    "a NUL": b"a\0b",
    "half a character": '"\\ud800": 1',
    "extends a list": "extends: [a]",
    "extends itself": "extends: params",
    "extends a long name": f"extends: {'x' * 300}",
    "extends a path": "extends: /etc/passwd",
    **{
        f"seeds: {value[:40]}": DEFAULT.replace("seeds: [0]", f"seeds: {value}")
        for value in (
            f"[{'9' * 5000}]",
            f"[0x{'f' * 5000}]",
            f"[{'9' * 400}]",
            f"[{', '.join(map(str, range(20_000)))}]",
            *("[!!int x]", "[!!float x]", "[!!bool x]", "[!!timestamp x]", "[!!map 5]"),
            *("[2020-13-45]", "!!set {a}", "!!omap [a: 1]", "!!binary aGk=", "190:20:30"),
            *("{? [a] : b}", "&a [*a]", "[.nan]", "[.inf]", '["\\ud800"]'),
        )
    },
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if not isinstance(value, dict | list):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        yield from places(inner, (*place, name))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    changed = copy.copy(value)
    changed[place[0]] = put(value[place[0]], place[1:], new)
    return changed


def plan_or_line() -> str:
    """Return the line that ``params.yaml`` is refused with, or the number of its cells."""
    began = time.process_time()
    try:
        text = f"{len(grid.cells(params.load(), Index()))} cells"
    except ClipmendError as error:
        text = str(error)
    except OSError as error:  # of a path that a setting names
        text = line_of(error)
    assert time.process_time() - began < SECONDS
    assert "\n" not in text
    assert len(text) < 3000
    return text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_of_any_form_is_refused_in_one_line(name) -> None:
    text = TEXTS[name]
    Path("params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert plan_or_line().startswith(("params.yaml", "Unknown preset"))
    assert not Path("executed").exists()


def test_a_pipe_or_a_folder_in_the_place_of_the_file_is_refused_in_one_line() -> None:
    os.mkfifo("params.yaml")
    assert plan_or_line() == "params.yaml is not a file, but a pipe or a device."
    Path("params.yaml").unlink()
    Path("params.yaml").mkdir()
    assert plan_or_line() == "params.yaml cannot be read: Is a directory."


@pytest.mark.parametrize("seed", [0, *((1, 2, 3) if "CLIPMEND_FAULTS" in os.environ else ())])
def test_a_seeded_edit_is_a_plan_or_one_line(seed) -> None:
    source, plans = random.Random(seed), 0
    where = [list(places(base)) for base in BASES]
    for _ in range(EDITS):
        number = source.randrange(len(BASES))
        edited = BASES[number]
        for _ in range(source.choice((1, 1, 1, 2, 3))):
            place, value = source.choice(where[number]), source.choice(VALUES)
            try:
                edited = put(edited, place, value)
            except (TypeError, LookupError, AttributeError):  # an earlier edit removed the place
                continue
        Path("params.yaml").write_text(yaml.safe_dump(edited))
        plans += plan_or_line().endswith(" cells")
    assert 0 < plans < EDITS


def test_a_source_that_is_no_name_is_refused() -> None:
    for source in ([], {}, None, 5):
        edited = put(BASES[0], ("download", "settings"), {"scenes": {"source": source}})
        Path("params.yaml").write_text(yaml.safe_dump(edited))
        assert plan_or_line().startswith("Unknown source of corpus 'scenes'")


def test_a_setting_with_maps_in_each_other_is_refused() -> None:
    edited = put(BASES[0], ("download", "settings"), {"scenes": {"test": {"a": {"b": []}}}})
    Path("params.yaml").write_text(yaml.safe_dump(edited))
    assert plan_or_line().startswith("params.yaml: download.settings.scenes.test")
