"""AutoAttack's ensemble: never kinder than PGD, nothing without a bound to move in."""

import builtins
from typing import Any

import pytest
import torch

from clipmend.clip.model import Clip, load
from clipmend.clip.zero_shot import class_embeds
from clipmend.corpus.splits import load_split, read_vocabulary
from clipmend.errors import MetricError
from clipmend.evaluate import ensemble
from clipmend.evaluate.robustness import Attacked, robustness
from clipmend.job import Input
from clipmend.measure.adversarial import Budget

IMAGES = 6


@pytest.fixture(scope="module")
def mended(victim: Input) -> Clip:
    return load(victim.folder)


@pytest.fixture(scope="module")
def attacked(corpus: Input, mended: Clip) -> Attacked:
    """Return a few images that the small victim calls what they are, and their own classes."""
    vocabulary = read_vocabulary(corpus.folder)
    test = load_split(corpus.folder, "test")
    classes = class_embeds(mended, vocabulary)
    with torch.no_grad():
        label = (mended.encode_image(test.images) @ classes.T).argmax(dim=1)
    rows = torch.arange(IMAGES)
    return Attacked(test.images[rows], test.images[rows], label[rows], classes, 0)


def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, mended: Clip, attacked: Attacked
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pyautoattack":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MetricError, match=r"pip install 'clipmend\[robustness\]'"):
        ensemble.ensemble_robustness(mended, attacked, 1 / 255, confidence=0.95, seed=0)


def measured(mended: Clip, attacked: Attacked, epsilon: float) -> float:
    pytest.importorskip("pyautoattack", reason="the extra `robustness` is not installed")
    found = ensemble.ensemble_robustness(mended, attacked, epsilon, confidence=0.95, seed=0)
    rate = found["robust_accuracy_ensemble"]
    assert rate.n == IMAGES
    return rate.value


def test_within_no_bound_nothing_is_lost(mended: Clip, attacked: Attacked) -> None:
    assert measured(mended, attacked, 1e-7) == 1.0


def test_it_leaves_no_more_than_pgd_does_and_draws_from_its_own_seed(
    mended: Clip, attacked: Attacked
) -> None:
    state = torch.get_rng_state()
    strong = measured(mended, attacked, 8 / 255)
    pgd = robustness(mended, attacked, Budget(8 / 255, 20), confidence=0.95)["robust_accuracy"]
    assert strong <= pgd.value  # type: ignore[union-attr]
    assert strong < 1.0
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_classes_are_refused(mended: Clip, attacked: Attacked) -> None:
    pytest.importorskip("pyautoattack", reason="the extra `robustness` is not installed")
    few = Attacked(attacked.images, attacked.triggered, attacked.label % 3, attacked.classes[:3], 0)
    with pytest.raises(MetricError, match="needs 4 classes, not 3"):
        ensemble.ensemble_robustness(mended, few, 1 / 255, confidence=0.95, seed=0)
