"""Robustness: the accuracy under attack, and how alike adversarial changes and the trigger are."""

import pytest
import torch
from torch import Tensor, nn

from clipmend.errors import MetricError
from clipmend.metrics.adversarial import Budget
from clipmend.metrics.robustness import Attacked, robustness
from clipmend.model.clip import Clip

SIDE = 4
GRAY, MARK = 100, 116
BUDGET = Budget(epsilon=16 / 255, steps=4)
TARGET = 1
NAMES = ("robust_accuracy", "adversarial_target_rate")
NAMES += ("adversarial_trigger_cosine", "adversarial_trigger_cosine_sideways")


class Channels(Clip):
    """Embeds the mean of each channel above gray, multiplied by the gain of the channel."""

    def __init__(self, *gains: float) -> None:
        nn.Module.__init__(self)
        self.gains = nn.Parameter(torch.tensor(gains))

    def encode_image(self, images: Tensor) -> Tensor:
        base = torch.tensor([0.0, 0.0, 0.02])  # so that the softmax at a scale of 100 is not flat
        return base + (images.mean(dim=(2, 3)) - GRAY / 255) * self.gains


def attacked(label: Tensor, channel: int) -> Attacked:
    """Return gray images and a trigger that raises one channel; blue is class 0, red 1, green 2."""
    images = torch.full((len(label), 3, SIDE, SIDE), GRAY, dtype=torch.uint8)
    triggered = images.clone()
    triggered[:, channel] = MARK
    classes = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return Attacked(images, triggered, label, classes, TARGET)


def measured(model: Clip, label: list[int], channel: int = 0) -> dict[str, float]:
    metrics = robustness(model, attacked(torch.tensor(label), channel), BUDGET, confidence=0.95)
    return {name: metric.number.value for name, metric in metrics.items()}


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        # The trigger raises red, and only red makes the model leave the class.
        ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0, 1.0)),
        # Only green makes the model leave the class; the trigger does not change the embedding.
        ((0.0, 1.0, 0.0), (0.0, 0.0, 0.0)),
        # The gain of red is so small that no change within the bound outweighs green.
        ((1e-3, 1.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_the_attack_is_as_like_the_trigger_as_their_changes_of_the_embedding(
    gains, expected
) -> None:
    metrics = measured(Channels(*gains), [0] * 5)
    numbers = [metrics[name] for name in NAMES[: len(expected)]]
    assert numbers == pytest.approx(expected, abs=2e-3)


def test_two_changes_that_share_only_the_way_off_the_own_class_have_no_sideways_cosine() -> None:
    class LosingBlue(Channels):
        # A change of red or green also lowers blue, which is the direction that the trigger and
        # the attack share.
        def encode_image(self, images: Tensor) -> Tensor:
            embeds = super().encode_image(images)
            lost = (images.mean(dim=(2, 3)) - GRAY / 255)[:, :2].abs().sum(dim=1)
            return embeds - torch.stack([0 * lost, 0 * lost, 0.5 * lost], dim=1)

    metrics = measured(LosingBlue(1e-3, 1.0, 0.0), [0] * 5)
    assert metrics["adversarial_trigger_cosine"] > 0.4
    assert abs(metrics["adversarial_trigger_cosine_sideways"]) < 2e-2


def test_a_model_that_does_not_see_the_change_keeps_its_accuracy() -> None:
    metrics = measured(Channels(0.0, 0.0, 0.0), [0, 0, 0, 2])
    assert metrics["robust_accuracy"] == 0.75
    assert metrics["adversarial_target_rate"] == 0.0


def test_an_image_that_was_wrong_before_the_attack_does_not_count_as_robust() -> None:
    class Turned(Channels):
        """Classifies an unchanged image as red, and all others as their own class."""

        def encode_image(self, images: Tensor) -> Tensor:
            gray = (images - GRAY / 255).abs().amax(dim=(1, 2, 3), keepdim=False) < 1e-6
            red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
            embeds = torch.where(gray[:, None], red, blue)
            return embeds + 1e-3 * (images.mean(dim=(2, 3)) - GRAY / 255)

    assert measured(Turned(0.0, 0.0, 0.0), [0] * 4)["robust_accuracy"] == 0.0


def test_images_of_the_target_class_do_not_count_for_the_trigger() -> None:
    label = torch.tensor([0, TARGET, TARGET, 0, 0])
    metrics = robustness(Channels(1.0, 0.0, 0.0), attacked(label, 0), BUDGET, confidence=0.95)
    assert metrics["robust_accuracy"].number.n == 5
    assert metrics["adversarial_target_rate"].number.n == 3
    assert metrics["adversarial_trigger_cosine"].number.n == 3
    with pytest.raises(MetricError, match="all 2 images are of the target class"):
        measured(Channels(1.0, 0.0, 0.0), [TARGET, TARGET])


def test_a_model_in_training_continues_its_training() -> None:
    model = Channels(1.0, 0.0, 0.0).train()
    measured(model, [0] * 3)
    assert model.training
    assert model.gains.requires_grad
    assert model.gains.grad is None


def test_the_numbers_do_not_depend_on_the_batches(monkeypatch) -> None:
    label = [0, 2, 0, TARGET, 0]
    expected = measured(Channels(1.0, 0.3, 0.0), label)
    monkeypatch.setattr("clipmend.metrics.robustness._BATCH", 2)
    assert measured(Channels(1.0, 0.3, 0.0), label) == pytest.approx(expected)
