"""The ensemble of AutoAttack leaves no more accuracy than PGD."""

import sys
from dataclasses import replace

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
def model(victim: Input) -> Clip:
    return load(victim.folder)


@pytest.fixture(scope="module")
def attacked(corpus: Input, model: Clip) -> Attacked:
    """Return images that are each a class of its own, so that a small change makes them wrong."""
    images = load_sample(corpus.folder, "test", IMAGES).images
    with torch.no_grad():
        classes = model.encode_image(images)
    return Attacked(images, images, torch.arange(IMAGES), classes, 0)


def test_without_the_package_the_error_names_the_extra_to_install(
    monkeypatch, model, attacked
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(MetricError, match=r"pip install 'clipmend\[robustness\]'"):
        autoattack.ensemble_robustness(model, attacked, 1 / 255, confidence=0.95, seed=0)


def accuracy(model: Clip, attacked: Attacked, epsilon: float) -> float:
    pytest.importorskip("pyautoattack", reason="the extra `robustness` is not installed")
    metrics = autoattack.ensemble_robustness(model, attacked, epsilon, confidence=0.95, seed=0)
    number = metrics["robust_accuracy_ensemble"].number
    assert number.n == IMAGES
    return number.value


def test_an_image_that_is_wrong_before_the_attack_counts_as_wrong(model, attacked) -> None:
    wrong = replace(attacked, label=attacked.label.roll(1))
    assert accuracy(model, wrong, 1 / 255) == 0.0


def test_the_ensemble_leaves_no_more_accuracy_than_pgd_and_uses_its_own_seed(
    model, attacked
) -> None:
    state = torch.get_rng_state()
    strong = accuracy(model, attacked, 16 / 255)
    pgd = robustness(model, attacked, Budget(16 / 255, 5), confidence=0.95)["robust_accuracy"]
    assert strong <= pgd.number.value
    assert strong < 1.0
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_classes_are_refused(model, attacked) -> None:
    pytest.importorskip("pyautoattack", reason="the extra `robustness` is not installed")
    few = Attacked(attacked.images, attacked.triggered, attacked.label % 3, attacked.classes[:3], 0)
    with pytest.raises(MetricError, match="needs 4 classes, not 3"):
        autoattack.ensemble_robustness(model, few, 1 / 255, confidence=0.95, seed=0)
