"""UBT's choice of a few suspects with a word in common."""

import pytest
import torch

from clipmend.data.words import words_of
from clipmend.methods.repairs.ubt_plan import few_shot, subset_of
from clipmend.metrics.otsu import outstanding

FRUIT = ["a red banana", "the banana", "Banana!", "a banana", "a cat", "a dog", "a hat", "a cup"]
SCORE = torch.tensor([0.9, 0.8, 0.95, 0.85, 0.88, 0.1, 0.2, 0.0])
ALL = torch.arange(8)


def test_suspects_with_the_shared_word_are_taken_the_most_suspect_first() -> None:
    subset = few_shot(SCORE, ALL, FRUIT, most=64, least_excess=0.2)
    assert subset.word == "banana"
    assert subset.rows.tolist() == [2, 0, 3, 1]  # 4 stands out too, but is no banana
    assert subset.share == pytest.approx(4 / 5)
    assert subset.base == pytest.approx(4 / 8)


def test_no_pair_is_taken_if_no_word_is_over_represented_enough() -> None:
    subset = few_shot(SCORE, ALL, FRUIT, most=64, least_excess=0.4)
    assert len(subset.rows) == 0
    assert subset.word == "banana"


def test_a_word_that_all_captions_have_has_no_excess() -> None:
    captions = [f"a photo of {name}" for name in "abcdefgh"]
    assert subset_of(ALL[:4], captions).excess == pytest.approx(1 / 4 - 1 / 8)


def test_the_number_of_pairs_follows_the_scores_up_to_a_bound() -> None:
    assert len(few_shot(SCORE, ALL, ["a banana"] * 8, most=3, least_excess=-1.0).rows) == 3
    assert len(few_shot(SCORE, ALL, ["a banana"] * 8, most=64, least_excess=-1.0).rows) == 5


def test_only_suspects_are_taken() -> None:
    subset = few_shot(SCORE, torch.tensor([5, 6, 7]), FRUIT, most=64, least_excess=-1.0)
    assert set(subset.rows.tolist()) <= {5, 6, 7}


def test_no_suspects_share_no_word() -> None:
    assert subset_of(ALL[:0], FRUIT).word == ""


@pytest.mark.parametrize("least_excess", [0.0, 0.65])
def test_of_no_suspects_none_are_chosen(least_excess: float) -> None:
    subset = few_shot(SCORE, ALL[:0], FRUIT, most=64, least_excess=least_excess)
    assert subset.rows.tolist() == []
    assert subset.rows.dtype == torch.long


@pytest.mark.parametrize(
    ("score", "count"),
    [([0.0, 0.1, 0.0, 0.9, 1.0], 2), ([0.5, 0.5, 0.5], 3), ([0.0, 1.0], 1), ([3.0], 1), ([], 0)],
)
def test_outstanding_scores_are_above_the_best_split(score: list[float], count: int) -> None:
    assert outstanding(torch.tensor(score)) == count


def test_the_count_agrees_with_otsu_by_brute_force() -> None:
    score = torch.cat([torch.randn(200), torch.randn(40) * 0.5 + 4])
    ordered = score.sort().values

    def between(place: int) -> float:
        low, high = ordered[:place], ordered[place:]
        share = len(high) / len(ordered)
        return share * (1 - share) * float(high.mean() - low.mean()) ** 2

    best = max(range(1, len(ordered)), key=between)
    assert abs(outstanding(score) - (len(ordered) - best)) <= 2  # the threshold is on a grid


def test_words_are_compared_in_lower_case_without_punctuation() -> None:
    assert words_of("A (ripe) Banana, on . a table!") == {"a", "ripe", "banana", "on", "table"}
