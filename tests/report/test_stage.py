"""The report as a whole: every file, the same bytes, whatever the grid."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from clipmend.report import contents
from clipmend.stages.report import run


def both_kinds(*names: str) -> set[str]:
    return {f"{name}.{kind}" for name in names for kind in ("svg", "png")}


OUTPUTS = {*contents.FILES, "index.html", *both_kinds(*contents.FIGURES)}

SMALL = {"attacks": ["unpoisoned", "badnet"], "objectives": ["mmcl"], "repairs": ["none", "ubt"]}
GRIDS = {
    "no ubt detector": SMALL | {"detectors": ["clip_score"]},
    "unpoisoned alone": SMALL | {"attacks": ["unpoisoned"]},
    "poisoned victims alone": SMALL | {"attacks": ["badnet"], "repairs": ["none"], "detectors": []},
    "nothing": {"corpora": []},
}


BADNET, UNPOISONED = ("findings/scenes-badnet-mmcl-seed0", "findings/scenes-unpoisoned-mmcl-seed0")
FINDINGS = {
    "no ubt detector": both_kinds(BADNET, UNPOISONED),
    "unpoisoned alone": both_kinds(UNPOISONED),
}


def files_of(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


@pytest.fixture(scope="module")
def made(lasting_tree):
    lasting_tree.confidence = 0.9
    job = lasting_tree.grid(**SMALL, seeds=(0, 1)).job()
    run(job)
    return job.out


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_gives_every_file(tree, name) -> None:
    job = tree.grid(**GRIDS[name]).job()
    run(job)
    written = files_of(job.out)
    assert written.keys() == OUTPUTS | FINDINGS.get(name, set())
    empty = {path for path, size in written.items() if not size}
    assert empty == ({"cards.jsonl"} if name == "nothing" else set())


def test_the_same_cells_give_the_same_bytes_in_whatever_order(tree) -> None:
    tree.grid(**SMALL)
    first, second = tree.job("first"), tree.job("second")
    run(first)
    tree.inputs = dict(reversed(tree.inputs.items()))
    run(second)
    for name in OUTPUTS | both_kinds(BADNET, UNPOISONED):
        assert (first.out / name).read_bytes() == (second.out / name).read_bytes(), name


def test_the_tables_agree_with_each_other_and_have_the_confidence_of_the_cells(made) -> None:
    assert "90% Student-t intervals" in (made / "table.md").read_text()
    cells, table = (pd.read_csv(made / name) for name in ("cells.csv", "table.csv"))
    assert len(cells) == 2 * len(table) == 2 * 2 * 2
    assert set(table["n_seeds"]) == {2}
    assert table["clean_accuracy"].mean() == pytest.approx(cells["clean_accuracy"].mean())


def test_the_page_needs_no_other_file_but_those_that_it_offers(made) -> None:
    page = (made / "index.html").read_text()
    images = re.findall(r'<img src="data:image/(?:svg\+xml|png);base64,', page)
    assert len(images) == len(contents.FIGURES) + 2
    assert not re.search(r'(src|href)="https?:', page)
    offered = set(re.findall(r'href="([^"#]+)"', page))
    assert offered == (OUTPUTS | both_kinds(BADNET, UNPOISONED)) - {"index.html"}
    assert "Zero-shot top-1 on untouched test images." in page
    assert "<td>ubt</td>" in page
    assert Path(contents.__file__).with_name("tables.js").read_text() in page


def test_the_page_lists_findings_without_those_of_controls(tree) -> None:
    job = tree.grid(attacks=["unpoisoned", "badnet"], objectives=["mmcl"]).job()
    run(job)
    page = (job.out / "index.html").read_text()
    section = page.partition('<h2 id="findings">')[2].partition("<h2")[0]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>.*</tr>", section)]
    assert [" ".join(row) for row in rows[1:]] == [
        "scenes/unpoisoned/mmcl/seed0 ubt no pear 40.0 / 9.0 20 0  0",
        "scenes/badnet/mmcl/seed0 ubt yes banana 100.0 / 9.0 20 16 93.8 6",
    ]
    assert "found nothing in scenes/unpoisoned/mmcl seed 0" in (job.out / "table.md").read_text()


def test_the_page_and_the_table_show_every_kind_of_defense_and_of_robustness(tree) -> None:
    tree.epsilons = (2, 4)
    tree.corpus("scenes")
    grid = {"attacks": ["unpoisoned", "badnet"], "detectors": [], "repairs": ["none", "pud"]}
    for attack in grid["attacks"]:
        poisoned = tree.poison("scenes", attack, 0)
        tree.victim(f"scenes/{attack}/mmcl/seed0", grid, poisoned)
        tree.victim(f"scenes/{attack}/roclip/seed0", grid | {"repairs": ["none"]}, poisoned)
    job = tree.job()
    run(job)
    page, text = (job.out / "index.html").read_text(), (job.out / "table.md").read_text()
    for heading in ("Defenses side by side, in percent", "Accuracy under attack, in percent"):
        assert f">{heading}</h2>" in page
        assert f"# {heading}\n" in text
    assert "| roclip |  | pretraining |" in text
    assert "Robust 4/255 (robust_accuracy_eps4): Top-1 under PGD, each pixel within 4/255." in text
    cells = pd.read_csv(job.out / "cells.csv")
    ends = ("", "_low", "_high")
    assert {f"robust_accuracy_eps2{end}" for end in ends} <= set(cells.columns)
    assert set(cells["n_robust_accuracy_eps2"]) == {500}
    claims = json.loads((job.out / "claims.json").read_text())
    (alike,) = (one for one in claims if one["id"] == "adversarial_resembles_trigger")
    assert alike["outcome"] == "supported"
    assert '<a href="#claims">Claims</a>' in page
    assert "How each is checked" in page


def test_pictures_carry_neither_a_time_nor_a_program(made) -> None:
    for name in (*contents.FIGURES, BADNET):
        assert b"<dc:date>" not in (made / f"{name}.svg").read_bytes()
        assert b"Software" not in (made / f"{name}.png").read_bytes()
