"""scripts/jpeg.py measures what JPEG leaves of a trigger."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from clipmend.attacks.trigger import read_triggers
from clipmend.corpus.splits import load_split, read_vocabulary
from clipmend.job import Input

SCRIPT = Path(__file__).parents[2] / "scripts" / "jpeg.py"


@pytest.fixture(scope="module")
def jpeg() -> ModuleType:
    spec = importlib.util.spec_from_file_location("jpeg", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["jpeg"] = module
    spec.loader.exec_module(module)
    return module


def test_all_is_left_of_a_change_that_stays_and_nothing_of_one_that_goes(jpeg: ModuleType) -> None:
    clean = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    marked = clean.clone()
    marked[:, :, 2:4, 2:4] = 200
    assert jpeg.left((clean, marked), (clean, marked)) == 1
    assert jpeg.left((clean, marked), (clean, clean)) == 0
    assert jpeg.left((clean, marked), (clean, marked // 2)) == 0.5
    both = torch.full_like(clean, 9)  # compression moves both alike: nothing of the trigger is lost
    assert jpeg.left((clean, marked), (both, both + marked)) == 1


def test_a_smooth_change_outlives_what_a_fine_one_does_not(jpeg: ModuleType) -> None:
    clean = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    smooth, fine = clean.clone(), clean.clone()
    smooth[:, :, :, 16:] += 12
    fine[:, :, ::2, ::2] += 12
    after = jpeg.compressed(clean, 30)
    kept = [jpeg.left((clean, m), (after, jpeg.compressed(m, 30))) for m in (smooth, fine)]
    assert kept[0] > 0.9
    assert kept[1] < 0.5


def test_a_victim_is_measured_at_every_quality(
    jpeg: ModuleType, corpus: Input, poison: Input, victim: Input
) -> None:
    val, vocabulary = load_split(corpus.folder, "val"), read_vocabulary(corpus.folder)
    (trigger,) = read_triggers(poison)
    found = jpeg.survival(victim, trigger, val, vocabulary, [90, 10])
    assert list(found.success) == ["ASR", "ASR at 90", "ASR at 10"]
    assert found.n == int((val.label != vocabulary.label_of("banana")).sum())
    assert 0 < found.left[10] < found.left[90] < 1.1
    assert jpeg.table([found]).splitlines()[2].startswith("| `badnet` | `mmcl` |")
