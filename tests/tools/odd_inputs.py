# ruff: noqa: E501  (tables of oddities, one a line)
"""Trials of commands with damaged or odd inputs, drawn by seed over all commands and formats.

``test_odd_inputs.py`` runs them. A trial says what its command must come to, as far as the drawing
knows it: the number of usable rows, the bad rows, or a refusal.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from clipmend.engine import presets
from tests.tools import odd_models
from tests.tools.odd_pairs import BESIDE, CLASSES, FORMATS, LABELS, Pairs, draw_pairs, plain

COUNT = 500
REST = {"trusted": 4, "val": 4, "test": 4}
"""How many pairs a corpus carves for each other split."""


@dataclass
class Trial:
    """A command and what it must come to.

    Attributes:
        refused: whether it ends with exit code 2; None: either will do.
        usable: the pairs that it must read if it is not refused; None: unknown.
        bad: the rows of the ledger then, by number; None: unknown.
        source: the settings of the corpus ``mine`` in ``params.yaml``; None: none is needed.
    """

    name: str
    words: list[str]
    refused: bool | None
    usable: int | None = None
    bad: set[int] | None = None
    source: dict[str, Any] | None = None
    codes: tuple[int, ...] = (0, 2)


@dataclass(frozen=True)
class Tools:
    """What a trial may copy or name.

    Attributes:
        model: a folder with a tiny model.
        good: a parquet file of good pairs.
        project: a project of stubs in which every cell is proven.
        report: a finished report.
    """

    model: Path
    good: Path
    project: Path
    report: Path


def draw_trial(number: int, tools: Tools) -> Trial:
    """Return a trial, with its files below the working folder, which is empty."""
    draw = Random(f"odd/{number}")
    families: dict[Callable[[Random, Tools], Trial], int] = {
        **{_own_pairs: 4, _corpus: 3, _labels: 1, _model: 2},
        **{_value: 3, _project: 3, _report: 2},
    }
    (maker,) = draw.choices(list(families), list(families.values()))
    trial = maker(draw, tools)
    trial.name = f"{number}: {trial.name}"
    return trial


# Pairs of a user


def _share(pairs: Pairs, policy: str) -> tuple[set[int], bool]:
    """Return the bad rows, and whether they are too many."""
    bad = {number for number, row in enumerate(pairs.rows) if row.is_bad}
    return bad, len(bad) > 0.25 * len(pairs.rows) or (policy == "refuse" and bool(bad))


def _own_pairs(draw: Random, tools: Tools) -> Trial:
    pairs = draw_pairs(draw, Path("mine"), draw.choice(FORMATS))
    policy = draw.choice(["skip"] * 4 + ["refuse"])
    path = "mine"
    files = [file for file in pairs.path.glob("photos.*") if file.suffix != ".csv"]
    if draw.random() < 0.3 and len(files) == 1:
        path = str(files[0])
        pairs.refused = False if pairs.kind in BESIDE else pairs.refused
    early = ["--early", str(tools.model / odd_models.WEIGHTS)]
    words = ["suspects", "--pairs", path, "--method", "abl", *early]
    if draw.random() < 0.25:
        words = ["mend", "--trusted", path, "--method", "ft", "--set", "baselines.epochs=1"]
        if "train" in pairs.kind:  # where splits are named, another one is not trusted
            pairs.refused = True
    words += ["--model", str(tools.model), "--out", "out", "--on-bad-rows", policy]
    trial = Trial(f"{words[0]}, {pairs}", words, pairs.refused)
    return _counted(trial, pairs, policy, least=64 if words[0] == "suspects" else 2)


def _counted(trial: Trial, pairs: Pairs, policy: str, least: int = 0) -> Trial:
    if pairs.rows and trial.refused is not True:
        trial.bad, is_refused = _share(pairs, policy)
        trial.usable = len(pairs.rows) - len(trial.bad)
        trial.refused = True if is_refused or trial.usable < least else trial.refused
    return trial


def _corpus(draw: Random, _: Tools) -> Trial:
    pairs = draw_pairs(draw, Path("mine"), draw.choice(FORMATS))
    policy = draw.choice(["skip"] * 4 + ["refuse"])
    return _download(pairs, policy)


def _download(pairs: Pairs, policy: str = "skip") -> Trial:
    source = {"source": "pairs", "path": "mine", "classes": list(CLASSES), "on_bad_rows": policy}
    words = ["download", "mine"]
    trial = Trial(f"download, {pairs}", words, pairs.refused, source=source | REST)
    trial = _counted(trial, pairs, policy)
    if trial.usable is not None:
        trial.usable += pairs.others
    if pairs.others and trial.bad:  # the share is that of all splits
        total = len(pairs.rows) + pairs.others
        trial.refused = policy == "refuse" or len(trial.bad) > 0.25 * total
    return trial


def _labels(draw: Random, _: Tools) -> Trial:
    Path("mine").mkdir()
    kind = draw.choice(list(LABELS))
    pairs = Pairs(Path("mine"), [plain(number) for number in range(80)])
    LABELS[kind](draw, pairs)
    pairs.kind = kind
    return _download(pairs)


# Models


def _model(draw: Random, tools: Tools) -> Trial:
    kind = draw.choice(list(odd_models.DAMAGES))
    damage, refused = odd_models.DAMAGES[kind]
    shutil.copytree(tools.model, "model")
    damage(draw, Path("model"))
    good = tools.model / odd_models.WEIGHTS
    model, early = ("model", str(good))
    name = kind
    if "config" not in kind and draw.random() < 0.3:
        model, early, name = str(tools.model), "model", f"early, {kind}"
    words = ["suspects", "--method", "abl", "--early", early]
    if early != "model" and draw.random() < 0.3:
        words = ["mend", "--method", "ft", "--set", "baselines.epochs=1"]
        words += ["--trusted", str(tools.good)]
    usable = 80 if words[0] == "suspects" else None
    words += ["--model", model, "--pairs", str(tools.good), "--out", "out"]
    return Trial(f"{words[0]}, {name}", words, refused, usable=usable)


# Values of the command line

TEXTS = ("", " ", ".", "..", "/", "//", "nowhere", "a\nb", "é🐸", "x" * 300, "-", "--", "%s", "~", "*", "{}", "None",
         "\x1b[31mred", "../../etc/passwd", "/dev/null", "@{", "HEAD~99999", "results", "params.yaml",
         "results/report", "pretrain//x", ":", "a:b", "local-dir:x", "download/", "\udcff", "a/" * 200)  # fmt: skip
NUMBERS = ("-1", "0", "1e9", "nan", "inf", "½", "٣", "0x10", "9" * 30, "1.5", "", "-0", "9" * 5000)
SETTINGS = ("nan", "inf", "-.inf", "-1", "0", "1e400", "2026-13-45", "2026-01-01", "[" * 2_000, "{a: 1}", "&a [*a]",
            "9" * 5_000, "0x", "'", "yes", "null", "x: y: z", "\t", "*a", "!!int x", "!!binary x", "- 1", "🐸", "\udcff",
            "!!python/object/apply:os.mkdir [executed]", "!!timestamp x", "? a", "1_0", "010", "=", "<<", "12:30:45")  # fmt: skip
_OWN = {
    **dict.fromkeys(
        ("--model", "--pairs", "--out", "--device", "--method", "--on-bad-rows"), TEXTS
    ),
    **dict.fromkeys(("--id-column", "--image-column", "--caption-column", "--trusted"), TEXTS),
    **dict.fromkeys(("--architecture", "--early"), TEXTS),
    **dict.fromkeys(("--seed", "--limit"), NUMBERS),
    "--set": tuple(
        f"{name}={value}"
        for name in (
            "detect.reference",
            "unlearn.epochs",
            "unlearn.isolated",
            "detect.loss",
            "unlearn.x",
        )
        for value in SETTINGS
    ),
}
_OTHERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("demo", "new", "--victim", "?"), TEXTS),
    (("demo", "params.yaml/?", "--victim", "x"), TEXTS),
    (("export-pairs", "?"), TEXTS),
    (("export-pairs", "pretrain/scenes@smoke/badnet/mmcl/seed0", "--out", "?"), TEXTS),
    (("report", "--from", "?", "--out", "new"), TEXTS),
    (("report", "--from", "results/report", "--out", "?"), TEXTS),
    (("report", "--from", "results/report", "?", "--out", "new"), TEXTS),
    (("report", "--from", "results/report", "--out", "new", "--params", "?"), TEXTS),
    (("report", "--partial", "?"), TEXTS),
    (("preset", "?"), TEXTS),
    (("preset", "smoke", "--out", "?"), tuple(text for text in TEXTS if text != "/dev/null")),
    (("estimate", "--params", "?"), TEXTS),
    (("estimate", "--machine", "?"), TEXTS),
    (("audit", "?"), TEXTS),
    (("audit", ".", "?"), TEXTS),
    (("audit", ".", "--graph", "?"), TEXTS),
    (("verify", "--rerun", "?"), NUMBERS[:2]),
    (("prune", "--yes", "--days", "?"), NUMBERS),
    (("export-crate", "?"), TEXTS),
    (("settings", "?"), TEXTS),
    *(((stage, "?"), TEXTS) for stage in ("download", "poison", "pretrain", "evaluate")),
    (("pretrain", "x", "--processes", "?"), NUMBERS[:2]),
    (("remake", "?", "new"), TEXTS),
    (("?",), TEXTS),
)


def _value(draw: Random, tools: Tools) -> Trial:
    shutil.copytree(tools.project, ".", dirs_exist_ok=True)
    if draw.random() < 0.5:
        option = draw.choice(list(_OWN))
        value = draw.choice(_OWN[option])
        early = tools.model / odd_models.WEIGHTS
        given = {
            "--model": tools.model,
            "--pairs": tools.good,
            "--out": "new",
            "--early": early,
            "--method": "abl",
        }
        given[option] = value
        words = ["suspects", *(str(word) for pair in given.items() for word in pair)]
        return Trial(f"suspects {option} {value[:40]!r}", words, None)
    form, values = draw.choice(_OTHERS)
    value = draw.choice(values)
    words = [word.replace("?", value) for word in form]
    return Trial(" ".join(form) + f" {value[:40]!r}", words, None, codes=(0, 1, 2))


# Projects

READING = (
    *(["status"], ["verify"], ["audit", "."], ["audit", ".", "results"], ["estimate"], ["preset"]),
    *(["export-crate", "new"], ["report", "--partial", "new"], ["prune", "--yes"]),
    *(["report", "--from", "results/report", "--out", "new"], ["preset", "smoke"]),
    ["export-pairs", "pretrain/scenes@smoke/badnet/mmcl/seed0"],
)


def _project(draw: Random, tools: Tools) -> Trial:
    shutil.copytree(tools.project, ".", dirs_exist_ok=True)
    files = sorted(path for path in Path().rglob("*") if path.is_file())
    near = [path for path in files if path.name == "params.yaml" or "report" in path.parts]
    chosen = {
        draw.choice(near if draw.random() < 0.5 else files) for _ in range(draw.choice((1, 2, 4)))
    }
    done = [f"{_spoil(draw, path)} {path}" for path in sorted(chosen)]
    return Trial(
        f"{(words := draw.choice(READING))[0]}, {done}", list(words), None, codes=(0, 1, 2)
    )


def _report(draw: Random, tools: Tools) -> Trial:
    shutil.copytree(tools.report, "one")
    files = [
        path for path in sorted(Path("one").iterdir()) if ".csv" in path.name or "json" in path.name
    ]
    done = [f"{_spoil(draw, path)} {path}" for path in draw.sample(files, draw.choice((1, 1, 2)))]
    theirs, whole = str(tools.report), str(presets.preset("default"))
    words = draw.choice((
        ["audit", "one", theirs],
        ["audit", theirs, "one", "--json"],
        ["report", "--from", "one", "--out", "new", "--params", whole],
        ["report", "--from", theirs, "one", "--out", "new", "--params", whole],
    ))  # fmt: skip
    return Trial(f"{words}, {done}", words, None, codes=(0, 1, 2))


def _spoil(draw: Random, path: Path) -> str:
    """Damage a file of a project, and say how."""
    data = path.read_bytes()
    kind = draw.choice(
        (
            "cut",
            "none",
            "gone",
            "bytes",
            "folder",
            "link",
            "altered",
            "altered",
            "deep",
            "UTF-16",
            "line",
            "name",
        )
    )
    if kind in ("gone", "folder", "link"):
        path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("none")
    elif kind == "name":
        Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\n")).write_bytes(data)
    elif kind == "altered" and path.suffix == ".json":
        path.write_text(json.dumps(odd_models.altered(draw, json.loads(data))[1]))
    elif kind == "altered" and path.suffix == ".csv":
        table = [line.split(b",") for line in data.split(b"\n")]
        line = draw.choice(table)
        line[draw.randrange(len(line))] = draw.choice(
            (b"", b"x", b"nan", b"-1", b"1e999", b'"', b"\xff", b"../..")
        )
        path.write_bytes(b"\n".join(map(b",".join, table)))
    else:
        lines = data.splitlines(keepends=True)
        at = draw.randrange(len(lines)) if lines else 0
        path.write_bytes({
            "cut": data[: len(data) // 2],
            "none": b"",
            "bytes": bytes(draw.randrange(256) for _ in range(300)),
            "deep": b"[" * 100_000,
            "UTF-16": data.decode(errors="replace").encode("utf-16"),
        }.get(kind, b"".join(lines[:at] + lines[at + 1 :])))  # fmt: skip
    return kind
