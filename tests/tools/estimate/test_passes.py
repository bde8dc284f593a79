"""What a job has to do, against the count by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from clipmend.engine import grid, params
from clipmend.engine.cell import Cell
from clipmend.engine.index import Glance
from clipmend.methods.attacks import issba, surrogate
from clipmend.methods.table import STAGES
from clipmend.metrics.curve import CURVE_IMAGES
from clipmend.model.fit import Hooks
from clipmend.tools.estimate import passes as counted
from clipmend.tools.estimate.corpora import SCENE_BYTES, corpus_of
from clipmend.tools.estimate.models import Known, known
from clipmend.tools.estimate.passes import Sizes, passes

PRESETS = Path(__file__).parents[3] / "params"
SIZES = Sizes(train=8000, trusted=1000, val=2000, test=10_000)
VICTIM = "scenes/badnet/mmcl/seed0"


@pytest.fixture(scope="module")
def cells() -> dict[str, Cell]:
    return grid.cells(params.load(PRESETS / "full.yaml"), Glance())


def test_pretraining_is_every_pair_in_every_epoch_and_the_curve(cells: dict[str, Cell]) -> None:
    cell = cells[f"pretrain/{VICTIM}"]
    watched = 10 * 2 * 500 / 3  # ten times, clean and triggered, forward
    assert passes(cell, SIZES) == pytest.approx(12 * 8000 + watched)


def test_chunks_are_encoded_a_second_time_where_a_batch_is_more_than_one(
    cells: dict[str, Cell],
) -> None:
    cell = cells[f"pretrain/{VICTIM}"]
    chunked, larger = (
        replace(cell, shared={**cell.shared, "loop": {"chunk": chunk}}) for chunk in (32, 4096)
    )
    again = (passes(chunked, SIZES) or 0) - (passes(cell, SIZES) or 0)
    assert again == pytest.approx(12 * 8000 / 3)
    assert passes(larger, SIZES) == passes(cell, SIZES)


def test_work_grows_with_epochs_and_with_pairs(cells: dict[str, Cell]) -> None:
    for name in (f"pretrain/{VICTIM}", f"baselines/{VICTIM}/ft", f"detect/{VICTIM}/ubt"):
        cell = cells[name]
        longer = replace(cell, settings={**cell.settings, "epochs": 2 * cell.settings["epochs"]})
        larger = replace(SIZES, train=2 * SIZES.train, trusted=2 * SIZES.trusted)
        once = passes(cell, SIZES)
        assert once is not None
        assert (passes(longer, SIZES) or 0) > once
        assert (passes(cell, larger) or 0) > once


def test_views_of_a_pair_are_passes_too(cells: dict[str, Cell]) -> None:
    curve = 10 * 2 * 500 / 3
    ft = passes(cells[f"baselines/{VICTIM}/ft"], SIZES)
    cleanclip = passes(cells[f"baselines/{VICTIM}/cleanclip"], SIZES)
    assert ft is not None
    assert cleanclip is not None
    assert ft - curve == pytest.approx(25 * 1000)
    assert cleanclip - curve == pytest.approx(2 * 100 * 1000)


def test_looking_at_every_pair_once_is_a_third_of_a_pass_each(cells: dict[str, Cell]) -> None:
    assert passes(cells[f"detect/{VICTIM}/dao"], SIZES) == pytest.approx(8000 / 3)


def test_every_job_of_full_that_trains_or_embeds_has_something_to_do(
    cells: dict[str, Cell],
) -> None:
    idle = {cell.stage for cell in cells.values() if not passes(cell, SIZES)}
    assert idle == {"download", "poison", "report"}
    assert {cell.stage for cell in cells.values()} == set(STAGES)


def test_a_corpus_is_known_from_its_settings(cells: dict[str, Cell]) -> None:
    corpus = corpus_of(cells["download/scenes"], is_made=False)
    assert corpus.sizes == SIZES
    assert corpus.size is not None
    assert corpus.size.value == SIZES.pairs * SCENE_BYTES
    assert corpus.fetched == (0, 0)


def test_models_of_the_same_layers_are_one_whatever_their_images_and_activation() -> None:
    assert known("RN50-quickgelu") == Known("RN50", 224, 102_007_137)
    assert known("scene_resnet") == Known("scene_resnet", 32, 4_595_161)
    assert known("RN101").parameters is None
    assert known("no_such_model") == Known("no_such_model", None, None)


def test_a_surrogate_sees_ten_thousand_pairs_at_most(cells: dict[str, Cell]) -> None:
    cell = cells["poison/scenes/badclip/seed0"]
    fitted = cell.settings["epochs"] * cell.settings["images"]
    assert passes(cell, SIZES) == 8 * 8000 + fitted
    assert passes(cell, replace(SIZES, train=500_000)) == 8 * 10_000 + fitted


def test_a_surrogate_that_is_what_the_victim_starts_from_sees_all_pairs(
    cells: dict[str, Cell],
) -> None:
    cell = cells["poison/scenes/badclip/seed0"]
    known = replace(cell, settings={**cell.settings, "known_start": True})
    fitted = cell.settings["epochs"] * cell.settings["images"]
    assert passes(known, replace(SIZES, train=500_000)) == 8 * 500_000 + fitted


def test_what_is_repeated_here_so_as_not_to_import_torch_is_what_is_done() -> None:
    assert counted._WATCHED == CURVE_IMAGES
    assert Hooks().points == counted._POINTS
    assert counted._SURROGATE == surrogate._PAIRS
    assert counted._SECRETS == issba._BATCH
