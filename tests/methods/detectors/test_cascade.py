"""CASCADE: its groups, its p-values, and poison that similarity alone leaves ambiguous."""

import pytest
import torch
import torch.nn.functional as F

from clipmend.methods.detectors.cascade import lower_probability, mean_cosines, p_values


def test_the_groups_are_those_of_two_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    low = 0.1 + 0.02 * torch.randn(100, generator=generator)
    high = 0.6 + 0.1 * torch.randn(900, generator=generator)
    below = lower_probability(torch.cat([high, low]), seed=0)
    assert (below[900:] > 0.9).all()
    assert (below[:900] < 0.1).float().mean() > 0.99


def test_a_caption_is_compared_with_all_references_but_itself() -> None:
    texts = F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    reference = torch.arange(12) < 4
    computed = mean_cosines(texts, reference)
    for row in range(12):
        others = [other for other in range(4) if other != row]
        expected = sum(float(texts[row] @ texts[other]) for other in others) / len(others)
        assert float(computed[row]) == pytest.approx(expected, abs=1e-6)
    alone = mean_cosines(texts, torch.arange(12) == 0)
    assert float(alone[0]) == pytest.approx(0, abs=1e-6)
    assert not mean_cosines(texts, torch.zeros(12, dtype=torch.bool)).any()


def test_a_p_value_is_the_share_of_references_that_conform_no_better() -> None:
    conformity = torch.tensor([0.1, 0.3, 0.5, 0.0, 0.3, 0.4, 0.9])
    reference = torch.tensor([True, True, True, False, False, False, False])
    expected = torch.tensor([2, 3, 4, 1, 3, 3, 4]) / 4
    assert torch.allclose(p_values(conformity, reference), expected)
    assert p_values(conformity, torch.zeros(7, dtype=torch.bool)).tolist() == [1.0] * 7


def test_the_test_misses_no_more_poisoned_captions_than_its_level() -> None:
    generator = torch.Generator().manual_seed(2)
    conformity = torch.rand(20_000, generator=generator)  # references and poison alike
    missed = p_values(conformity, torch.arange(20_000) < 500)[500:] <= 0.05
    assert float(missed.float().mean()) == pytest.approx(0.05, abs=0.02)


def test_captions_like_the_references_rank_first_among_equally_similar_pairs() -> None:
    generator = torch.Generator().manual_seed(3)
    classes = F.normalize(torch.randn(10, 32, generator=generator), dim=1)
    label = torch.randint(10, (400,), generator=generator)
    label[:40] = 0  # the target
    noise = 0.2 * torch.randn(400, 32, generator=generator)
    texts = F.normalize(classes[label] + noise / 32**0.5, dim=1)
    reference = torch.zeros(400, dtype=torch.bool)
    reference[:20] = True  # half of the poison, and as many hard clean pairs of other classes
    reference[40:60] = True
    conformity = mean_cosines(texts, reference)
    clean = (torch.arange(400) >= 60) & (label != 0)
    assert conformity[20:40].min() > conformity[clean].max()
