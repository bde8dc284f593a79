"""Robustness: what is left of the accuracy, and whether adversarial changes are the trigger's."""

import pytest
import torch
from torch import Tensor, nn

from clipmend.errors import MetricError
from clipmend.metrics.adversarial import Budget
from clipmend.metrics.robustness import Attacked, robustness
from clipmend.model.clip import Clip

SIDE = 4
GREY, MARK = 100, 116
BUDGET = Budget(epsilon=16 / 255, steps=4)
TARGET = 1


class Planted(Clip):
    """Sees the means of three groups of pixels, the red, green and blue ones, above gray.

    Args:
        gains: how much each counts; 0: not at all.
    """

    def __init__(self, *gains: float) -> None:
        nn.Module.__init__(self)
        self.gains = nn.Parameter(torch.tensor(gains))

    def encode_image(self, images: Tensor) -> Tensor:
        base = torch.tensor([0.0, 0.0, 0.02])  # so that at a scale of 100 a softmax is not flat
        return base + (images.mean(dim=(2, 3)) - GREY / 255) * self.gains


def attacked(label: Tensor, channel: int) -> Attacked:
    """Grey images of which the trigger lifts one channel; blue is class 0, red 1, green 2."""
    images = torch.full((len(label), 3, SIDE, SIDE), GREY, dtype=torch.uint8)
    triggered = images.clone()
    triggered[:, channel] = MARK
    classes = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return Attacked(images, triggered, label, classes, TARGET)


def measured(model: Clip, label: list[int], channel: int = 0) -> dict[str, float]:
    found = robustness(model, attacked(torch.tensor(label), channel), BUDGET, confidence=0.95)
    return {name: one.number.value for name, one in found.items()}


def test_where_the_trigger_is_the_only_way_out_the_attack_finds_it() -> None:
    found = measured(Planted(1.0, 0.0, 0.0), [0] * 5)
    assert found["robust_accuracy"] == 0.0
    assert found["adversarial_target_rate"] == 1.0
    assert found["adversarial_trigger_cosine"] == pytest.approx(1.0)
    assert found["adversarial_trigger_cosine_sideways"] == pytest.approx(1.0)


def test_where_the_way_out_is_another_the_attack_has_nothing_of_the_trigger() -> None:
    found = measured(Planted(0.0, 1.0, 0.0), [0] * 5)
    assert found["robust_accuracy"] == 0.0
    assert found["adversarial_target_rate"] == 0.0
    assert found["adversarial_trigger_cosine"] == 0.0  # the trigger moves nothing here


def test_a_trigger_and_an_attack_at_right_angles_have_a_cosine_of_0() -> None:
    # Red is seen so faintly that no change within the bound outweighs green.
    found = measured(Planted(1e-3, 1.0, 0.0), [0] * 5)
    assert abs(found["adversarial_trigger_cosine"]) < 2e-3


def test_the_way_away_from_itself_is_no_likeness() -> None:
    # Green lowered and blue lowered: both take the image off its own blue, and share that alone.
    class Leaving(Planted):
        def encode_image(self, images: Tensor) -> Tensor:
            seen = super().encode_image(images)
            left = (images.mean(dim=(2, 3)) - GREY / 255)[:, :2].abs().sum(dim=1)
            return seen - torch.stack([0 * left, 0 * left, 0.5 * left], dim=1)

    found = measured(Leaving(1e-3, 1.0, 0.0), [0] * 5)
    assert found["adversarial_trigger_cosine"] > 0.4
    assert abs(found["adversarial_trigger_cosine_sideways"]) < 2e-2


def test_a_model_that_sees_nothing_of_the_change_keeps_its_accuracy() -> None:
    found = measured(Planted(0.0, 0.0, 0.0), [0, 0, 0, 2])
    assert found["robust_accuracy"] == 0.75
    assert found["adversarial_target_rate"] == 0.0


def test_an_image_that_was_wrong_before_the_attack_does_not_count_as_robust() -> None:
    class Turned(Planted):
        """Calls an untouched image red, and all others, as it happens, right."""

        def encode_image(self, images: Tensor) -> Tensor:
            gray = (images - GREY / 255).abs().amax(dim=(1, 2, 3), keepdim=False) < 1e-6
            red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
            seen = torch.where(gray[:, None], red, blue)
            return seen + 1e-3 * (images.mean(dim=(2, 3)) - GREY / 255)

    assert measured(Turned(0.0, 0.0, 0.0), [0] * 4)["robust_accuracy"] == 0.0


def test_images_of_the_target_class_say_nothing_of_the_trigger() -> None:
    label = torch.tensor([0, TARGET, TARGET, 0, 0])
    found = robustness(Planted(1.0, 0.0, 0.0), attacked(label, 0), BUDGET, confidence=0.95)
    assert found["robust_accuracy"].number.n == 5
    assert found["adversarial_target_rate"].number.n == 3
    assert found["adversarial_trigger_cosine"].number.n == 3


def test_images_of_the_target_class_alone_are_refused() -> None:
    with pytest.raises(MetricError, match="all 2 images are of the target class"):
        measured(Planted(1.0, 0.0, 0.0), [TARGET, TARGET])


def test_a_model_in_training_is_measured_in_evaluation_and_goes_on_training() -> None:
    model = Planted(1.0, 0.0, 0.0).train()
    measured(model, [0] * 3)
    assert model.training
    assert model.gains.requires_grad
    assert model.gains.grad is None


def test_the_numbers_do_not_depend_on_how_the_images_are_batched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    label = [0, 2, 0, TARGET, 0]
    whole = measured(Planted(1.0, 0.3, 0.0), label)
    monkeypatch.setattr("clipmend.metrics.robustness._BATCH", 2)
    assert measured(Planted(1.0, 0.3, 0.0), label) == pytest.approx(whole)
