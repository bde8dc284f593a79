"""What comes back from the store has the key, the cell and the bytes that it claims."""

import json
import shutil
from pathlib import Path

import pytest

from clipmend.engine import cards, plan, store
from clipmend.engine.cell import RESULTS
from tests.engine.made import EVALUATED, FT, contents, make_missing

pytestmark = pytest.mark.usefixtures("results")

OTHER = "baselines/scenes/unpoisoned/mmcl/seed0/ft"


@pytest.fixture
def keys() -> dict[str, str]:
    """Empty the folders of two cells, which the store still has, and return their keys."""
    for name in (FT, OTHER):
        shutil.rmtree(RESULTS / name)
    return {name: plan.entry(name).cell.key for name in (FT, OTHER)}


def test_two_stored_cells_whose_folders_were_swapped_come_back_right(results, keys) -> None:
    first, second = (store.STORE / key for key in keys.values())
    first.rename("aside")
    second.rename(first)
    Path("aside").rename(second)
    assert make_missing(plan.arrange()) == []
    assert contents() == results


def test_a_stored_cell_under_the_key_of_another_is_not_taken_for_it(results, keys) -> None:
    first, second = (store.STORE / key for key in keys.values())
    shutil.rmtree(first)
    shutil.copytree(second, first)
    assert make_missing(plan.arrange()) == [FT, EVALUATED, "report"]
    assert contents() == results


@pytest.mark.parametrize(
    "change",
    [
        {"cell": OTHER},
        {"settings": {"rate": 0.9}},
        {"method": "par"},
        {"outputs": {}},
        {"outputs": {"../output.txt": {"sha256": "0" * 64, "size": 1}}},
    ],
)
def test_a_stored_card_that_claims_other_things_is_not_restored(results, keys, change) -> None:
    path = store.STORE / keys[FT] / cards.CARD
    card = json.loads(path.read_bytes())
    path.unlink()
    path.write_text(json.dumps(card | change))
    made = make_missing(plan.arrange())
    # A card without outputs proves no wrong file; its readers noted others and are stale.
    assert FT in made or not (RESULTS / FT / "output.txt").exists()
    assert json.loads((RESULTS / FT / cards.CARD).read_bytes())["settings"] == {"rate": 0.1}
    assert {name for name in contents() if "/ft/" in name} <= results.keys()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_link_in_the_store_is_not_followed(results, keys, kind, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    stored = store.STORE / keys[FT]
    if kind == "folder":
        shutil.move(stored, outside / "cell")
        stored.symlink_to(outside / "cell")
    else:
        shutil.move(stored / "output.txt", outside)
        (stored / "output.txt").symlink_to(outside / "output.txt")

    def state() -> dict[Path, tuple[int, ...]]:
        # Not the time of access: the test itself reads these files.
        found = {path: path.stat() for path in outside.rglob("*")}
        return {path: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_nlink) for path, s in found.items()}

    before = state()
    assert FT in make_missing(plan.arrange())
    plan.arrange()
    assert contents() == results
    assert state() == before
