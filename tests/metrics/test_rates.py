"""Clean accuracy (CA), attack success rate (ASR) and their intervals."""

import pytest
import torch
from scipy.stats import binomtest

from clipmend.errors import MetricError
from clipmend.metrics.rates import attack_success_rate, clean_accuracy, rate

TARGET = 2


def cosines(*predicted: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), 4).float()


def test_asr_counts_only_images_of_other_classes_than_the_target() -> None:
    label = torch.tensor([0, 1, 3, TARGET])
    measured = attack_success_rate(cosines(TARGET, TARGET, 3, TARGET), label, target_label=TARGET)
    assert (measured.value, measured.n) == (2 / 3, 3)


def test_asr_is_refused_where_every_image_is_of_the_target_class() -> None:
    with pytest.raises(MetricError, match="all 2 images are of the target class"):
        attack_success_rate(cosines(0, 1), torch.tensor([TARGET, TARGET]), target_label=TARGET)


def test_ca_is_the_share_of_images_whose_class_is_closest() -> None:
    measured = clean_accuracy(cosines(0, 1, 2, 2), torch.tensor([0, 1, 2, 3]))
    assert (measured.value, measured.n) == (0.75, 4)


def test_top_k_counts_a_class_among_the_k_closest() -> None:
    ranked = torch.tensor([[0.1, 0.9, 0.5, 0.3]])
    label = torch.tensor([2])
    assert clean_accuracy(ranked, label).value == 0
    assert clean_accuracy(ranked, label, top=2).value == 1


def test_ca_refuses_images_without_a_label() -> None:
    with pytest.raises(MetricError, match="1 of 2 images have no label"):
        clean_accuracy(cosines(0, 1), torch.tensor([0, -1]))


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 7), (7, 7), (9472, 10000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_intervals_are_those_of_scipy(hits, n, confidence) -> None:
    measured = rate(hits, n, confidence=confidence)
    expected = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert measured.low == pytest.approx(expected.low, abs=1e-12)
    assert measured.high == pytest.approx(expected.high, abs=1e-12)
