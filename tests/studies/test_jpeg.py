"""`studies/jpeg/make.py` measures what JPEG leaves of a trigger."""

import torch

from clipmend.engine.job import Input
from clipmend.methods.attacks.trigger import read_triggers
from studies.jpeg.make import compressed, left, measure


def test_a_change_that_remains_is_left_and_one_that_vanishes_is_not() -> None:
    clean = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    marked = clean.clone()
    marked[:, :, 2:4, 2:4] = 200
    assert left((clean, marked), (clean, marked)) == 1
    assert left((clean, marked), (clean, clean)) == 0
    assert left((clean, marked), (clean, marked // 2)) == 0.5
    both = torch.full_like(clean, 9)  # compression moves both alike: the trigger loses nothing
    assert left((clean, marked), (both, both + marked)) == 1


def test_jpeg_leaves_a_smooth_change_and_destroys_a_fine_one() -> None:
    clean = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    smooth, fine = clean.clone(), clean.clone()
    smooth[:, :, :, 16:] += 12
    fine[:, :, ::2, ::2] += 12
    after = compressed(clean, 30)
    kept = [left((clean, m), (after, compressed(m, 30))) for m in (smooth, fine)]
    assert kept[0] > 0.9
    assert kept[1] < 0.5


def test_a_victim_is_measured_at_every_quality(corpus: Input, poison: Input, victim: Input) -> None:
    (trigger,) = read_triggers(poison)
    count, values = measure(victim, corpus, trigger, [90, 10])
    assert list(values) == ["ASR", "ASR at 90", "ASR at 10", "left at 90", "left at 10"]
    assert 0 < count < 64  # images of `val` whose true class is not the target
    assert 0 < values["left at 10"] < values["left at 90"] < 1.1
