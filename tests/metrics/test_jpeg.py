"""scripts/jpeg.py measures what JPEG leaves of a trigger."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from clipmend.engine.job import Input
from clipmend.methods.attacks.trigger import read_triggers


@pytest.fixture(scope="module")
def jpeg(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("jpeg")


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
    bench = jpeg.Bench.of(corpus.folder, [90, 10])
    val, vocabulary = bench.val, bench.vocabulary
    (trigger,) = read_triggers(poison)
    found = jpeg.survival(victim, trigger, bench)
    assert list(found.success) == ["ASR", "ASR at 90", "ASR at 10"]
    assert found.n == int((val.label != vocabulary.label_of("banana")).sum())
    assert 0 < found.left[10] < found.left[90] < 1.1
    assert jpeg.table([found]).splitlines()[2].startswith("| `badnet` | `mmcl` |")
