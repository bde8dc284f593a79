"""A stranger's project, opened with every command: nothing outside it is read or changed."""

import gzip
import io
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image

from clipmend import cli
from clipmend.engine import cards, plan
from clipmend.engine.cell import INGREDIENTS, RESULTS
from clipmend.engine.printing import printable
from clipmend.errors import ClipmendError
from clipmend.report.page import Page
from clipmend.report.table import Section, Table, markdown
from clipmend.tools import preset
from clipmend.tools.audit import terminal
from clipmend.tools.audit.causes import Cause
from clipmend.tools.audit.comparison import Change, Comparison
from clipmend.tools.standalone import model_card
from clipmend.tools.standalone.settings import Chosen
from tests.engine.made import make_missing
from tests.engine.own_locks import own_locks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MARKUP = "<script>alert(1)</script>{{ 7*191 }}{% raw %}[/red]\x1b]0;owned\x07\x1b[31m\n\u202e"
VICTIM = "scenes@smoke/badnet/mmcl/seed0"
EVALUATED = RESULTS / f"evaluate/{VICTIM}/none/badnet"
MODEL = f"results/unlearn/{VICTIM}/ubt"
PAIRS = f"{MODEL}/output.txt"
COMMANDS = [
    ["status"],
    ["verify"],
    ["audit", "."],
    ["estimate"],
    ["export-crate", "{new}/crate"],
    ["preset"],
    ["report", "--partial", "{new}/part"],
    ["report", "--from", "results/report", "--out", "{new}/joined"],
    ["settings", "--write"],
    ["export-pairs", f"pretrain/{VICTIM}", "--out", "{new}.parquet"],
    ["suspects", "--model", MODEL, "--pairs", PAIRS, "--out", "{new}/suspects"],
    ["mend", "--model", MODEL, "--pairs", PAIRS, "--out", "{new}/mended"],
    ["demo", "{new}/demo", "--victim", VICTIM],
    ["remake", f"detect/{VICTIM}/ubt", "{new}/again"],
    # These bring cells back from the store, which the commands above must not find repaired.
    *(["download", "scenes@smoke"], ["poison", "scenes@smoke/badnet/seed0"], ["pretrain", VICTIM]),
    *(["detect", f"{VICTIM}/ubt"], ["unlearn", f"{VICTIM}/ubt"], ["baselines", f"{VICTIM}/ft"]),
    *(["evaluate", f"{VICTIM}/none/badnet"], ["report"]),
    ["prune", "--yes"],
    ["preset", "up", "--out", "up.yaml"],
    ["preset", "smoke", "--force"],
]
OPENED = ("open", "os.listdir", "os.scandir", "os.utime", "os.chmod", "os.truncate")  # follow links
NAMED = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.symlink")  # do not


class Watch:
    """Notes which files below a folder this process opens, lists or changes."""

    folder: ClassVar[str | None] = None
    seen: ClassVar[list[str]] = []

    @classmethod
    def hook(cls, event: str, arguments: tuple[object, ...]) -> None:
        """Note one event; Python calls it, and it cannot be removed."""
        if cls.folder is None or event not in OPENED + NAMED:
            return
        for path in arguments[: 1 + (event in NAMED)]:
            if isinstance(path, str | bytes | os.PathLike):
                named, is_named = Path(os.fsdecode(path)), event in NAMED
                real = str(named.parent.resolve() / named.name if is_named else named.resolve())
                if real.startswith(f"{cls.folder}/"):
                    cls.seen.append(f"{event} {real}")


sys.addaudithook(Watch.hook)


class Pickled:
    """An object whose pickle makes a folder when it is read."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which every cell is proven; its files are of no use to a reader."""
    folder: Path = tmp_path_factory.mktemp("made")
    with own_locks(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        preset.write("smoke", Path("params.yaml"))
        make_missing(plan.arrange())
        plan.arrange()  # puts the cells into the store
    yield folder


@pytest.fixture
def outside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter a copy of the project, and return a folder that no command may read or change."""
    shutil.copytree(made, tmp_path / "project")
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    for name in ("secret.txt", "folder/metrics.json", "folder/card.json"):
        (outside / name).write_text('{"secret": 1}')
    (outside / "up.yaml").write_text("seeds: [0]")
    shutil.copytree(made / "results", outside / "results")
    monkeypatch.chdir(tmp_path / "project")
    with own_locks():
        yield outside
    Watch.folder = None
    assert not Path("executed").exists()


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return time, number of links and content of every file below a folder."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_nlink, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def link(path: Path | str, target: Path) -> None:
    """Put a link in the place of a file or a folder."""
    path = Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def edit(change: Callable[[dict[str, Any]], object]) -> None:
    """Change the card of a cell so that it still fits its key."""
    path = EVALUATED / cards.CARD
    card = json.loads(path.read_bytes())
    change(card)
    keys = {role: read["key"] for role, read in card["inputs"].items()}
    card["key"] = cards.key({name: card[name] for name in INGREDIENTS}, keys)
    path.unlink()
    cards.write(EVALUATED, card)


def grow(path: Path) -> None:
    """Make a file of 50 GB that takes no space."""
    path.touch()
    os.truncate(path, 50 * 2**30)


def links(outside: Path) -> None:
    for name in ("cells.csv", "cards.jsonl", "cards.jsonl.gz", "code.json", "card.json"):
        link(RESULTS / "report" / name, outside / "secret.txt")
    link(EVALUATED / "metrics.json", outside / "folder/metrics.json")
    link("results/download/scenes@smoke/facts.json", outside / "secret.txt")
    link(".clipmend/plan.sqlite", outside / "secret.txt")


def own_folders(outside: Path) -> None:
    for name in ("work", "locks", "store"):
        link(f".clipmend/{name}", outside / "folder")
    link("results/baselines", outside / "folder")


def linked_cells(outside: Path) -> None:
    for name in ("poison", f"pretrain/{VICTIM}", f"evaluate/{VICTIM}", f"detect/{VICTIM}/ubt"):
        link(RESULTS / name, outside / "results" / name)


def linked_report(outside: Path) -> None:
    link("results/report", outside / "results/report")
    link("results/download/scenes@smoke", outside / "results/download/scenes@smoke")


def cached(outside: Path) -> None:
    """Put links in the form of those of DVC into the cells, to files that no cache has."""
    (outside / "ab").mkdir()
    for number, name in enumerate((EVALUATED / "output.txt", RESULTS / "report/cells.csv")):
        target = outside / f"ab/{number:030}"
        target.write_bytes(b"corpus")
        link(name, target)


def logs(outside: Path) -> None:
    cell = Path("logs/benchmark") / EVALUATED.relative_to(RESULTS).with_suffix(".tsv")
    cell.parent.mkdir(parents=True)
    link(cell, outside / "secret.txt")
    link("logs/evaluate", outside / "folder")
    link("logs/report.log", outside / "secret.txt")  # into which a job of Snakemake would write
    grow(cell.with_name("large.tsv"))


def records(outside: Path) -> None:
    link(".clipmend", outside / "folder")


def snakemake(outside: Path) -> None:
    link(".snakemake", outside / "folder")


def pipes(outside: Path) -> None:
    assert outside.is_dir()
    for name in (
        ".clipmend/index.json",
        ".clipmend/plan.sqlite",
        ".clipmend/locks/main",
        f".clipmend/locks/cells/evaluate%{VICTIM.replace('/', '%')}%none%badnet",
        "results/report/cells.csv",
        "results/report/cards.jsonl",
        "results/poison",
        EVALUATED / cards.CARD,
        "params/pipe.yaml",
        "logs/benchmark/report.tsv",
    ):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        os.mkfifo(path)


def sizes(outside: Path) -> None:
    assert outside.is_dir()
    grow(EVALUATED / cards.CARD)
    grow(Path(".clipmend/index.json"))
    for name in ("cells.csv", "cards.jsonl"):
        grow(RESULTS / "report" / name)


def markup(outside: Path) -> None:
    def change(card: dict[str, Any]) -> None:
        card["settings"] |= {"x": MARKUP, MARKUP: [MARKUP]}
        card["code"][MARKUP] = "0" * 64
        card["files"] |= {str(outside / "secret.txt"): "0" * 64}
        card["environment"] |= {"cpu": MARKUP, "packages": {MARKUP: MARKUP}, "device": [MARKUP]}

    edit(change)
    for name in ("facts.json", "bad_rows.json"):
        Path("results/download/scenes@smoke", name).write_text('{"splits": 5, "rows": []}')
    (EVALUATED / "a\x1b[31m\nb").write_text("x")


def foreign_cards(outside: Path) -> None:
    report = RESULTS / "report"
    (report / "cells.csv").write_text("corpus,attack,trigger,objective,seed,method\n")
    card = {"cell": str(outside / "folder"), "key": "0", "stage": "evaluate", "method": "x"}
    (report / "cards.jsonl").write_text(json.dumps(card) + "\n[1]\nno card\n")


def foreign_tables(outside: Path) -> None:
    """Write tables and records that parse and are not those of a run."""
    assert outside.is_dir()
    report = RESULTS / "report"
    card = json.loads((EVALUATED / cards.CARD).read_bytes())
    named = card | {"cell": "evaluate/$x_{$/a/b/seed0/c/d", "environment": {"packages": {}}}
    lines = [card, card | {"environment": {"packages": [1]}}, named]
    (report / "cards.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = ["corpus,attack,trigger,objective,seed,method,clean_accuracy", "$x_{$,a,d,b,0,c,x", "a"]
    (report / "cells.csv").write_text("\n".join([*rows, "b,c,d,e,f,g,h,i,j", "\0", "x" * 200_000]))
    (report / "detectors.csv").write_text("\0\n")
    (report / "code.json").write_text("[" * 100_000)
    Path("dvc.lock").write_text("[" * 3_000)


def bomb(outside: Path) -> None:
    assert outside.is_dir()
    (RESULTS / "report/cells.csv").write_text("corpus\n")
    packed = RESULTS / "report/cards.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\0" * 1_000_000, 1) * 220)


def linked_parameters(outside: Path) -> None:
    link("params.yaml", outside / "secret.txt")


def linked_presets(outside: Path) -> None:
    link("params", outside)
    Path("params.yaml").write_text("extends: up\n")
    link("up.yaml", outside / "up.yaml")


def documentation(outside: Path) -> None:
    link("docs", outside / "folder")
    link("params.schema.json", outside / "secret.txt")


def parameters(outside: Path) -> None:
    Path("params.yaml").write_text("seeds: !!python/object/apply:os.mkdir [executed]\n")
    Path("params").mkdir()
    shutil.copy("params.yaml", "params/mine.yaml")
    link("params/other.yaml", outside / "secret.txt")
    Path("params/up.yaml").write_text("extends: ../../outside/up\n")


HOSTILE = [
    *(links, own_folders, linked_cells, linked_report, cached, logs, records, snakemake, pipes),
    *(sizes, markup, foreign_cards, foreign_tables, bomb, parameters, linked_parameters),
    *(linked_presets, documentation),
]


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command as a shell does, and return its exit code and what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clipmend", *arguments])
        patch.setenv("CLIPMEND_PATIENCE", "0")
        with pytest.raises(SystemExit) as ended:
            cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_every_command_stays_inside_the_project(outside, tmp_path, capsys, change) -> None:
    change(outside)
    before = snapshot(outside)
    Watch.seen.clear()
    Watch.folder = str(outside)
    for command in COMMANDS:
        arguments = [part.format(new=tmp_path / "new") for part in command]
        code, printed = answer(arguments, capsys)
        assert code in (0, 1, 2), arguments
        for char in ("\x1b", "\x07", "\u202e", "owned\n"):
            assert char not in printed, arguments
        assert Watch.seen == [], arguments
    try:
        plan.arrange()  # as `snakemake -n` does
    except ClipmendError as refused:
        assert "\n" not in printable(str(refused))
    Watch.folder = None
    assert Watch.seen == []
    assert snapshot(outside) == before
    assert not Path("executed").exists()


@pytest.mark.parametrize("command", ["suspects", "mend", "demo"])
@pytest.mark.parametrize("name", [".", ".clipmend-progress", ".clipmend-demo"])
def test_a_folder_of_results_that_is_a_link_or_has_one_is_refused(
    outside, capsys, command, name
) -> None:
    if name == ".":
        (outside / "empty").mkdir()
        Path("new").symlink_to(outside / "empty")
    else:
        Path("new").mkdir()
        Path("new/model").mkdir()  # as a killed call leaves
        Path("new", name).symlink_to(outside / "folder" / ("card.json" if "demo" in name else ""))
    before = snapshot(outside)
    options = ["--model", MODEL, "--pairs", PAIRS, "--out", "new"]
    code, printed = answer([command, *(["new"] if command == "demo" else options)], capsys)
    assert code == 2
    assert printed.count("\n") == 1
    assert snapshot(outside) == before
    assert not (outside / "empty").exists() or not any((outside / "empty").iterdir())


def test_every_command_of_the_help_is_tried() -> None:
    help_of = typer.main.get_command(cli.app)
    assert isinstance(help_of, typer.core.TyperGroup)
    assert {command[0] for command in COMMANDS} == help_of.commands.keys()


def test_a_link_in_the_place_of_the_parameters_is_replaced(outside, capsys) -> None:
    link("params.yaml", outside / "secret.txt")
    assert answer(["status"], capsys)[0] == 2
    assert answer(["preset", "smoke", "--force"], capsys)[0] == 0
    assert not Path("params.yaml").is_symlink()


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("folder", [".", "..", "results"])
def test_a_folder_in_the_place_of_a_file_to_write_is_one_line(capsys, folder) -> None:
    code, printed = answer(["audit", ".", "--graph", folder], capsys)
    assert code == 2
    assert printed.splitlines()[-1] == (
        f"clipmend: {folder} cannot be used: Is a directory; the file system refuses it."
    )


@pytest.mark.usefixtures("outside")
def test_a_model_that_is_a_pickle_of_other_objects_is_not_executed(capsys) -> None:
    image = io.BytesIO()
    Image.new("RGB", (32, 32)).save(image, "PNG")
    rows = {"id": [str(row) for row in range(64)], "image": [image.getvalue()] * 64}
    pq.write_table(pa.table(rows | {"caption": [MARKUP] * 64}), "pairs.parquet")
    Path("model").mkdir()
    config = ROOT / "src/clipmend/model/configs/scene_resnet.json"
    shutil.copy(config, "model/open_clip_config.json")
    Path("model/open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Pickled()))
    for command in ("suspects", "mend"):
        options = ["--model", "model", "--pairs", "pairs.parquet", "--out", f"out-{command}"]
        code, printed = answer([command, *options], capsys)
        assert code == 2, printed
        assert printed.count("\n") == 1


def test_markup_is_text_on_the_page(tmp_path) -> None:
    rows = pd.DataFrame([[MARKUP, MARKUP]], columns=[MARKUP, f"{MARKUP} "], dtype=object)
    section = Section(MARKUP, [Table(MARKUP, rows)], [MARKUP])
    page = Page({"a": section}, [], MARKUP, [], [MARKUP])
    page.write(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "<script>alert" not in text
    assert "{{ 7*191 }}{% raw %}" in text
    assert "1337" not in text


def written(text: str, folder: Path) -> Iterator[str]:
    """Yield each Markdown text that is written of other people's texts, without its code spans."""
    rows = pd.DataFrame([[text, text]], columns=[text, f"{text} "], dtype=object)
    yield markdown([Section("Title", [Table(text, rows, np.array([[True, False]]))])])
    group = {"word": text, "n": 1, "effect": 1.0, "n_effect": 1, "p_value": 0.1}
    finding = {"says": text, "n_pairs": 2, "n_suspects": 1, "groups": [group]}
    card = "\n".join(model_card._found(finding, Mock(spec=Chosen)))
    assert card.count("`") - text.count("`") == 2
    yield card.replace(f"`{text.replace('`', chr(39))}`", "")
    cause = Cause("parameter", text, old=text, new=text)
    change = Change(text, "changed", {}, (cause,), (), fed=False, numbers={})
    terminal.write_graph(Comparison("a", "b", (), (change,), 0), folder / "graph.md")
    yield (folder / "graph.md").read_text()


@pytest.mark.parametrize("mark", ["<img src=x>", "[a](http://b)", "![a](http://b)", "a\n# b"])
def test_markup_is_text_in_markdown(tmp_path, mark) -> None:
    for page in written(f"{mark}`{mark}`", tmp_path):
        assert mark not in page


def test_the_name_of_a_cell_ends_no_box_of_the_graph(tmp_path) -> None:
    *_, page = written('x"] --> y["z', tmp_path)
    graph = page.split("```")[1]
    assert graph.count('"]') == graph.count('["') == 1


def test_a_mark_of_a_table_ends_no_cell(tmp_path) -> None:
    table = next(written("a|b", tmp_path)).split("\n\n")[2]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}) == 1


def test_a_text_for_a_terminal_has_no_control_characters() -> None:
    assert printable("a→é 'b'") == "a→é 'b'"
    assert printable("a\x1b[31m\nb\u202e") == r"a\x1b[31m\nb\u202e"
