"""Each figure holds what it claims to show, and nothing covers anything."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.text import Text

from clipmend.data.images import decode
from clipmend.data.pairs import OVERLAY, read_pairs, write_pairs
from clipmend.data.row_groups import Groups
from clipmend.metrics.visibility import difference
from clipmend.report import contents
from clipmend.report.figures import ca_vs_asr, curves, gallery, persistence, similarity
from clipmend.report.files import read_pairs_by_id
from clipmend.report.results import Example, Results
from clipmend.report.style import DOUBLE, SINGLE, look


def drawn(tree):
    results = Results(tree.inputs, gallery=3)
    figures = {name: module.plot(results) for name, module in contents.figures().items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def examples(tree, count):
    return Results(tree.inputs, gallery=count).examples


def labels(figure):
    parts = [figure, *figure.subfigs]
    return [text.get_text() for part in parts for key in part.legends for text in key.get_texts()]


def visible(figure):
    return [axes for axes in figure.axes if axes.axison]


@pytest.fixture(scope="module")
def figures(lasting_tree):
    return drawn(lasting_tree.grid())


def test_a_point_per_cell_at_its_rates(tree) -> None:
    results = Results(tree.grid().inputs)
    cells = results.cells
    figure = ca_vs_asr.plot(results)
    assert [axes.get_title() for axes in figure.axes] == ["mmcl", "mmcl_ssl"]
    points = {
        (float(bar.lines[0].get_xdata()[0]), float(bar.lines[0].get_ydata()[0]))
        for axes in figure.axes
        for bar in axes.containers
    }
    assert sum(len(axes.containers) for axes in figure.axes) == len(cells) == 48
    assert points == set(zip(cells["attack_success_rate"], cells["clean_accuracy"], strict=True))


def test_the_best_corner_is_marked_and_controls_are_open(figures) -> None:
    figure = figures["ca_vs_asr"]
    for axes in figure.axes:
        (corner,) = axes.patches
        assert corner.center == (0, 1)
    assert {"none", "ubt@oracle†", "badnet", "best corner"} <= set(labels(figure))
    (key,) = figure.legends
    faces = [handle.get_markerfacecolor() for handle in key.legend_handles]
    faces = dict(zip(labels(figure), faces, strict=True))
    assert faces["ubt@oracle†"] == "white"
    assert faces["ubt"] != "white"


def test_a_victim_is_seen_behind_a_repair_that_left_it_as_it_was(figures) -> None:
    """Such points coincide: the victim's is drawn first, and larger."""
    for axes in figures["ca_vs_asr"].axes:
        sizes = [bar.lines[0].get_markersize() for bar in axes.containers]
        colors = [bar.lines[0].get_color() for bar in axes.containers]
        victims = [place for place, color in enumerate(colors) if color == look("none").color]
        assert victims == list(range(len(victims)))
        assert min(sizes[: len(victims)]) > max(sizes[len(victims) :])


def test_a_roc_panel_per_poisoned_victim_and_a_curve_per_detector(figures) -> None:
    figure = figures["detector_roc"]
    titles = [axes.get_title() for axes in visible(figure)]
    assert titles == [f"{a}, {o}" for a in ("badnet", "blended") for o in ("mmcl", "mmcl_ssl")]
    for axes in visible(figure):
        named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        assert [line.get_label() for line in named] == ["clip_score", "ubt"]
        assert axes.get_xscale() == "log"
        for line in named:
            assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (1, 1)


def test_histograms_hold_every_pair_once(figures) -> None:
    panels = visible(figures["similarity"])
    outlines = [[patch for patch in axes.patches if not patch.get_fill()] for axes in panels]
    # Two rows of three victims, each before and after; the first two victims are unpoisoned.
    assert [len(groups) for groups in outlines] == [1, 1, 2, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    for groups in outlines:
        for patch in groups:
            top = np.asarray(patch.get_xy())[:, 1]
            assert top[1:-1:2].sum() == pytest.approx(1)


def test_of_several_seeds_the_similarity_of_the_first_is_shown(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], seeds=(2, 1))
    assert len(similarity.plot(Results(tree.inputs)).axes) == 2


def test_the_gallery_shows_clean_triggered_and_their_difference(tree) -> None:
    first, *shown = examples(tree.grid(), 3)
    names = ["badnet"] * 2 + ["blended"] * 3
    assert [(one.attack, one.corpus) for one in shown] == [(name, "scenes") for name in names]
    assert first.attack == "badnet"
    assert np.array_equal(first.clean, tree.image(3))
    assert np.array_equal(first.triggered, tree.triggered("badnet", 3))
    assert first.poisoned_caption == "a photo of a banana"
    images = [image for axes in drawn(tree)["gallery"].axes for image in axes.images]
    assert len(images) == 2 * 3 * 3


def test_the_difference_is_amplified_about_grey() -> None:
    clean = np.full((2, 2, 3), 100, np.uint8)
    triggered = clean.copy()
    triggered[0, 0] = (110, 90, 255)
    change = difference(clean, triggered)
    assert change[0, 0].tolist() == [168, 88, 255]
    assert (change[1] == 128).all()


def test_of_photographs_the_gallery_shows_what_the_trigger_changes_and_no_more(tree) -> None:
    photo = tree.png(tree.draws("photo").integers(0, 256, (45, 37, 3), np.uint8))
    seen = np.array(decode(photo, 16))
    seen[-4:, -4:] = 255
    row = dict.fromkeys(("caption", "label", "original_caption"), "") | {"id": "a"}
    pairs = pa.Table.from_pylist([row | {"image": photo}])
    pq.write_table(pairs, tree.cell("download/scenes") / "train.parquet")
    poison = pa.Table.from_pylist([row | {"image": tree.png(seen), "is_poisoned": True}], OVERLAY)
    pq.write_table(poison, tree.cell("poison/scenes/badnet/seed0") / "overlay.parquet")
    (shown,) = examples(tree, 1)
    changed = (difference(shown.clean, shown.triggered) != 128).any(axis=2)
    assert changed[-4:, -4:].all()
    assert not changed[:-4].any()
    assert not changed[:, :-4].any()


def test_the_gallery_shows_poisoned_pairs_alone(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"])
    second = examples(tree, 2)[1]
    tree.spare("badnet", 1)
    (first,) = examples(tree, 1)
    assert np.array_equal(first.triggered, second.triggered)


def test_a_caption_of_three_lines_is_whole_and_a_longer_one_says_that_it_goes_on() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    said = "remember a drawing of the banana", " ".join(["banana"] * 40)
    results = Results({})
    vars(results)["examples"] = [Example("scenes", "trojvqa", image, image, said[1], said[0])] * 6
    clean, triggered = (axes.get_title() for axes in gallery.plot(results).axes[:12:6])
    assert triggered.split() == said[0].split()
    assert clean.endswith("…")
    assert clean.count("\n") == triggered.count("\n") == 2


def test_the_gallery_reads_little_more_than_the_rows_that_it_shows(
    tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.pairs = 600
    tree.grid(attacks=["badnet"], objectives=["mmcl"])
    path = tree.root / "download/scenes/train.parquet"
    write_pairs(read_pairs(path), path)
    read = []

    def told(groups: Groups, group: int, columns: Sequence[str]) -> pa.Table:
        read.append(group)
        return reading(groups, group, columns)

    reading = Groups.read
    monkeypatch.setattr(Groups, "read", told)
    found = read_pairs_by_id(path, ["000599", "000300", "000298", "none"])
    assert set(found) == {"000298", "000300", "000599"}
    assert found["000300"]["image"] == tree.png(tree.image(300))
    assert read == [2, 4]


def test_a_line_per_victim_and_per_repair(figures) -> None:
    pretraining, repair = figures["curves"].subfigs
    assert [len(axes.lines) for axes in pretraining.axes] == [3] * 6
    points = [[len(line.get_xdata()) for line in axes.lines] for axes in pretraining.axes[:3]]
    # The first point has no loss yet, and an unpoisoned victim no trigger.
    assert points == [[6, 6, 6], [7, 7, 7], [0, 7, 7]]
    assert [len(axes.lines) for axes in repair.axes] == [5] * 8
    assert labels(figures["curves"])[-1] == "ubt@oracle†"


def test_seeds_share_a_panel_of_repairs(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], seeds=(0, 1, 2))
    _, repair = curves.plot(Results(tree.inputs)).subfigs
    assert [len(axes.lines) for axes in repair.axes] == [15, 15]


def test_a_repair_that_took_no_step_is_a_point(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none", "ubt"])
    path = tree.root / "unlearn/scenes/badnet/mmcl/seed0/ubt/curve.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    _, repair = curves.plot(Results(tree.inputs)).subfigs
    assert [line.get_xdata().tolist() for axes in repair.axes for line in axes.lines] == [[0], [0]]


DEFAULT = ["none", "ft", "cleanclip", "ubt", "ubt@random", "ubt@oracle"]
POISONS = "cleanclip@poisons5"
GRIDS = {
    "default": {},
    "one": {"attacks": ["badnet"], "objectives": ["mmcl"], "repairs": ["none", "ft"]},
    "five panels": {
        "attacks": ["badnet", "blended", "label_consistent", "issba", "sig"],
        "objectives": ["mmcl"],
    },
    "seeds": {"attacks": ["badnet", "blended"], "seeds": (0, 1, 2), "repairs": ["none", "ubt"]},
    "many repairs": {
        "attacks": ["badnet"],
        "repairs": [*DEFAULT, "abl", "par", "adversarial_ft", "fine_pruning", "pud", POISONS],
        "detectors": ["clip_score", "ubt", "pud", "dao", "lid", "slof", "abl", "k_distance"],
    },
    "many objectives": {
        "attacks": ["badnet"],
        "objectives": ["mmcl", "mmcl_ssl", "siglip", "roclip", "safeclip"],
        "repairs": ["none"],
    },
    "two corpora": {"corpora": ["photos", "scenes@smoke"], "repairs": ["none", "ubt"]},
}


@pytest.mark.parametrize("name", GRIDS)
def test_nothing_covers_anything_and_every_letter_can_be_read(tree, name) -> None:
    for title, figure in drawn(tree.grid(**GRIDS[name])).items():
        assert SINGLE <= figure.get_figwidth() <= DOUBLE
        figure.draw_without_rendering()
        whole = figure.bbox
        boxes = [axes.get_tightbbox() for axes in visible(figure)]
        for part in [figure, *figure.subfigs]:
            for key in part.legends:
                extent = key.get_window_extent()
                assert not extent.count_overlaps(boxes), f"{title}: the legend covers a panel"
                assert whole.x0 <= extent.x0 and extent.x1 <= whole.x1, f"{title}: a clipped legend"
        for text in figure.findobj(Text):
            if text.get_text().strip() and text.get_visible():
                assert text.get_fontsize() >= 7, f"{title}: {text.get_text()!r} is small"
        titles = [axes.title.get_window_extent() for axes in visible(figure) if axes.get_title()]
        for place, box in enumerate(titles):
            assert not box.count_overlaps(titles[place + 1 :]), f"{title}: titles run together"


def test_what_repairs_leave_is_a_square_for_each_attack_and_repair(tree) -> None:
    results = Results(tree.grid(attacks=["trojvqa", "badnet"], repairs=["none", "ubt"]).inputs)
    panels = persistence.plot(results).axes
    assert len(panels) == 2
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["none", "ubt"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["badnet", "trojvqa"]
    means = results.means.set_index(["objective", "attack", "method"])["attack_success_rate"]
    rate = means["mmcl", "badnet", "ubt"]
    assert f"{100 * rate:.0f}" in {text.get_text() for text in panels[0].texts}


def test_a_figure_without_data_is_none_and_has_a_sentence_in_its_place() -> None:
    for module in contents.figures().values():
        assert module.plot(Results({})) is None
        assert module.EMPTY.endswith(".")


def test_the_style_of_the_reader_changes_nothing(tree) -> None:
    import matplotlib as mpl

    results = Results(tree.grid(attacks=["badnet"]).inputs)
    with mpl.rc_context({"font.size": 30, "axes.grid": False}):
        figure = ca_vs_asr.plot(results)
    assert figure.axes[0].xaxis.label.get_fontsize() == 8
