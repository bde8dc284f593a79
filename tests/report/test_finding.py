"""What an unlearning repair found: the figure and the file show it beside the truth."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.offsetbox import AnnotationBbox, TextArea
from matplotlib.text import Text

from clipmend.report.figures import finding
from clipmend.report.findings import findings_text
from clipmend.report.results import Results
from clipmend.report.sheet import Tile, draw_sheet, marked, square
from clipmend.report.style import CHOSEN, CLEAN

SMALL = {"attacks": ["unpoisoned", "badnet"], "objectives": ["mmcl"]}
BADNET, UNPOISONED = ("findings/scenes-badnet-mmcl-seed0", "findings/scenes-unpoisoned-mmcl-seed0")


@pytest.fixture(scope="module")
def small(lasting_tree):
    return lasting_tree.grid(**SMALL, seeds=(0, 1), repairs=["none", "ubt", "ubt@oracle"])


@pytest.fixture(scope="module")
def results(small):
    return Results(small.inputs)


@pytest.fixture(scope="module")
def shown(results):
    return finding.findings_with_figure(results.findings)


def words(tiles):
    """Return the words of a sheet as drawn: (text, color) by tile."""
    axes = Figure(figsize=(4, 4)).add_axes((0, 0, 1, 1))
    draw_sheet(axes, tiles, 4.0, color=CHOSEN)
    boxes = [box for box in axes.artists if isinstance(box, AnnotationBbox)]
    areas = [box.findobj(TextArea) for box in boxes]
    return [[(one.get_text(), to_hex(one._text.get_color()).upper()) for one in a] for a in areas]


def test_each_plain_unlearner_has_a_figure_of_the_first_seed(shown) -> None:
    assert list(shown) == [UNPOISONED, BADNET]
    first = shown[BADNET]
    other = replace(first, unlearned=replace(first.unlearned, method="pud"))
    assert list(finding.findings_with_figure([first, other])) == [BADNET, f"{BADNET}-pud"]


def test_the_sheet_shows_the_chosen_pairs_as_the_victim_saw_them(small, results, shown) -> None:
    tiles = finding.tiles_of(results, shown[BADNET])
    assert len(tiles) == 16
    assert np.array_equal(tiles[0].image, small.triggered("badnet", 3))
    assert [tile.frame for tile in tiles] == [CHOSEN] * 15 + [CLEAN]
    assert np.array_equal(tiles[-1].image, small.image(0))
    assert [word for word, mark in tiles[0].caption if mark] == ["banana"]


def test_where_nothing_was_found_the_most_suspect_pairs_are_shown(small, results, shown) -> None:
    one = shown[UNPOISONED]
    tiles = finding.tiles_of(results, one)
    ranked = one.scored.pairs.sort_values("score", ascending=False)["id"]
    assert len(tiles) == 24
    assert np.array_equal(tiles[0].image, small.image(int(ranked.iloc[0])))
    assert [word for word, mark in tiles[0].caption if mark] == ["pear"]
    texts = [text.get_text() for text in finding.plot(results, one).findobj(Text)]
    assert "Nothing suspicious was found." in texts
    assert "The 24 most suspect pairs; none was chosen" in texts
    assert "chosen (0)" in texts


def test_the_panels_hold_every_group_and_the_curve(small, results, shown) -> None:
    one = shown[BADNET]
    _, before, after, rates, loss = finding.plot(results, one).axes
    members = {name: len(pairs) for name, pairs in one.members.items()}
    assert sum(members.values()) == small.pairs
    assert members["chosen"] == 16
    for axes in (before, after):
        outlines = [patch for patch in axes.patches if not patch.get_fill()]
        assert len(outlines) == sum(map(bool, members.values()))
        for patch in outlines:
            assert np.asarray(patch.get_xy())[1:-1:2, 1].sum() == pytest.approx(1)
    assert [len(line.get_xdata()) for line in rates.lines] == [7, 7]
    assert [len(line.get_xdata()) for line in loss.lines] == [6]


def test_a_detector_that_tells_no_similarity_says_so(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], detectors=["clip_score"])
    results = Results(tree.inputs)
    (one,) = finding.findings_with_figure(results.findings).values()
    texts = [text.get_text() for text in finding.plot(results, one).findobj(Text)]
    assert texts.count("Not recorded by clip_score.") == 2


def test_a_corpus_without_parquet_shows_what_the_overlay_has(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"])
    (tree.root / "download/scenes/train.parquet").unlink()
    results = Results(tree.inputs)
    (one,) = finding.findings_with_figure(results.findings).values()
    tiles = finding.tiles_of(results, one)
    assert [tile.image is None for tile in tiles] == [False] * 15 + [True]
    assert [word for word, _ in tiles[-1].caption] == ["a", "red", "pear", "on", "a", "banana"]


def test_nothing_runs_out_of_the_figure_and_every_letter_can_be_read(results, shown) -> None:
    for one in shown.values():
        figure = finding.plot(results, one)
        figure.draw_without_rendering()
        whole = figure.bbox
        panels = [axes.get_tightbbox() for axes in figure.axes]
        for place, box in enumerate(panels):
            assert not box.count_overlaps(panels[place + 1 :])
        said = [text for part in figure.findobj(SubFigure) for text in part.texts]
        under_images = [area._text for area in figure.findobj(TextArea)]
        for box in [*panels, *(text.get_window_extent() for text in (*said, *under_images))]:
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1
            assert whole.y0 <= box.y0 and box.y1 <= whole.y1
        for text in figure.findobj(Text):
            assert text.get_fontsize() >= 7 or not text.get_text().strip()


def test_words_are_marked_once_each() -> None:
    once = (("a", True), ("cat", True), ("on", False), ("a", False), ("cat", False))
    assert marked("a cat on a cat", "a cat") == once


def test_a_caption_is_wrapped_and_its_mark_never_cut_off() -> None:
    short = marked("the red pear", "pear")
    late = marked("this is a very long caption about an old wooden table and a pear", "pear")
    unmarked = marked("this is a very long caption about an old wooden table", "")
    huge = marked("Donaudampfschifffahrtsgesellschaft $1_000^2$", "")
    drawn = words([Tile(None, caption, CHOSEN) for caption in (short, late, unmarked, huge)])
    assert drawn[0] == [("the red", "#333333"), ("pear", CHOSEN)]
    assert drawn[1][0][0].startswith("…")
    assert drawn[1][-1] == ("pear", CHOSEN)
    assert drawn[2][-1][0].endswith("…")
    assert all(color == "#333333" for _, color in drawn[2])
    cut, price = (text for text, _ in drawn[3])
    assert cut.startswith("Donauda")
    assert cut.endswith("…")
    assert price == "$1_000^2$"


def test_a_photograph_is_cropped_to_its_middle_and_no_larger_than_can_be_seen(tree) -> None:
    photo = np.zeros((200, 300, 3), np.uint8)
    photo[:, 50:250] = 255
    assert square(tree.png(photo)).shape == (96, 96, 3)
    assert (square(tree.png(photo))[1:-1, 1:-1] == 255).all()


def test_the_file_lists_the_finding_of_every_repair_on_every_victim(small, results) -> None:
    entries = json.loads(findings_text(results.findings))
    names = [(one["attack"], one["seed"], one["method"]) for one in entries]
    assert names == list(product(("unpoisoned", "badnet"), (0, 1), ("ubt", "ubt@oracle")))
    assert [one["control"] for one in entries] == [False, True] * 4
    assert all(len(one["shown"]) == (16 if one["found"] else 24) for one in entries)
    badnet = entries[4]
    assert badnet["word"] == "banana"
    assert badnet["precision_of_chosen"] == 15 / 16
    assert [row["is_poisoned"] for row in badnet["shown"]] == [True] * 15 + [False]
    assert badnet["curve"][0].keys() >= {"step", "clean_accuracy"}
    assert "loss" not in badnet["curve"][0]
    for moment in ("similarity_before", "similarity_after"):
        counts = badnet["histograms"][moment]
        assert sum(map(sum, counts.values())) == small.pairs
        assert {len(one) for one in counts.values()} == {len(badnet["histograms"]["edges"]) - 1}
    assert entries[0]["precision_of_chosen"] is None
    assert {"word", "precision_of_chosen", "suspects"} <= badnet["definitions"].keys()


def test_without_an_unlearning_repair_there_is_no_finding(tree) -> None:
    tree.grid(**SMALL, repairs=["none", "ft"])
    assert Results(tree.inputs).findings == []
    assert findings_text([]) == "[]\n"


def test_all_are_suspects_of_a_detector_that_does_not_say(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], detectors=["ubt"], repairs=["none", "ubt"])
    path = tree.root / "detect/scenes/badnet/mmcl/seed0/ubt/scores.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.table(table.drop_columns(["suspect"])), path)
    (one,) = Results(tree.inputs).findings
    counts = {name: len(pairs) for name, pairs in one.members.items()}
    assert counts == {"others": 0, "suspects": 184, "chosen": 16}
