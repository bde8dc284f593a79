"""AutoAttack's ensemble: never kinder than PGD, and what is wrong already stays wrong."""

import builtins
from dataclasses import replace
from typing import Any

import pytest
import torch

from clipmend.data.splits import load_sample
from clipmend.engine.job import Input
from clipmend.errors import MetricError
from clipmend.metrics import autoattack
from clipmend.metrics.adversarial import Budget
from clipmend.metrics.robustness import Attacked, robustness
from clipmend.model.clip import Clip, load

IMAGES = 6


@pytest.fixture(scope="module")
def mended(victim: Input) -> Clip:
    return load(victim.folder)


@pytest.fixture(scope="module")
def attacked(corpus: Input, mended: Clip) -> Attacked:
    """Return images of which each is a class: right at first, and wrong after a small change."""
    images = load_sample(corpus.folder, "test", IMAGES).images
    with torch.no_grad():
        classes = mended.encode_image(images)
    return Attacked(images, images, torch.arange(IMAGES), classes, 0)


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
        autoattack.ensemble_robustness(mended, attacked, 1 / 255, confidence=0.95, seed=0)


def measured(mended: Clip, attacked: Attacked, epsilon: float) -> float:
    pytest.importorskip("pyautoattack", reason="the extra `robustness` is not installed")
    found = autoattack.ensemble_robustness(mended, attacked, epsilon, confidence=0.95, seed=0)
    left = found["robust_accuracy_ensemble"].number
    assert left.n == IMAGES
    return left.value


def test_what_is_wrong_already_counts_as_wrong(mended: Clip, attacked: Attacked) -> None:
    wrong = replace(attacked, label=attacked.label.roll(1))
    assert measured(mended, wrong, 1 / 255) == 0.0


def test_it_leaves_no_more_than_pgd_does_and_draws_from_its_own_seed(
    mended: Clip, attacked: Attacked
) -> None:
    state = torch.get_rng_state()
    strong = measured(mended, attacked, 16 / 255)
    pgd = robustness(mended, attacked, Budget(16 / 255, 5), confidence=0.95)["robust_accuracy"]
    assert strong <= pgd.number.value
    assert strong < 1.0
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_classes_are_refused(mended: Clip, attacked: Attacked) -> None:
    pytest.importorskip("pyautoattack", reason="the extra `robustness` is not installed")
    few = Attacked(attacked.images, attacked.triggered, attacked.label % 3, attacked.classes[:3], 0)
    with pytest.raises(MetricError, match="needs 4 classes, not 3"):
        autoattack.ensemble_robustness(mended, few, 1 / 255, confidence=0.95, seed=0)
