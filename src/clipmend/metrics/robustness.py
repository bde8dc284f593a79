"""Robustness to adversarial examples, and how far these are like triggered images."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from clipmend.metrics.adversarial import Budget, frozen, misclassification, pgd
from clipmend.metrics.rates import Mean, Measured, Rate, of_other_classes, rate
from clipmend.model.clip import Clip

_BATCH = 100


@dataclass(frozen=True)
class Attacked:
    """Images that a model is attacked on, and what it would need to see a trigger in them.

    Attributes:
        images: untouched.
        triggered: the same with the trigger.
        classes: the zero-shot classifier, which the attack knows.
        target_label: the class that the trigger stands for.
    """

    images: UInt8[Tensor, "samples 3 height width"]
    triggered: UInt8[Tensor, "samples 3 height width"]
    label: Int[Tensor, " samples"]
    classes: Float[Tensor, "classes dim"]
    target_label: int

    @property
    def where(self) -> str:
        """Which images they are, as definitions say it."""
        return f"on {len(self.images)} test images, the same for all, drawn by id"


def robustness(
    model: Clip, attacked: Attacked, budget: Budget, *, confidence: float
) -> dict[str, Measured]:
    """Return what is left of the accuracy, and whether the attack found the trigger.

    The attack is untargeted PGD on the zero-shot classifier's cross-entropy, from the images
    themselves, in the pixels of the corpus.

    Returns:
        ``robust_accuracy``; ``adversarial_target_rate``, over the images of other classes;
        ``adversarial_trigger_cosine`` and ``adversarial_trigger_cosine_sideways``, means over them.
    """
    right, target, alike, sideways = (
        torch.cat(parts) for parts in zip(*_batches(model, attacked, budget), strict=True)
    )
    other = of_other_classes(attacked.label, attacked.target_label)
    count = int(other.sum())
    numbers: dict[str, Rate | Mean] = {
        "robust_accuracy": rate(int(right.sum()), len(right), confidence=confidence),
        "adversarial_target_rate": rate(int(target[other].sum()), count, confidence=confidence),
        "adversarial_trigger_cosine": Mean(float(alike[other].mean()), count),
        "adversarial_trigger_cosine_sideways": Mean(float(sideways[other].mean()), count),
    }
    meanings = _meanings(budget, attacked)
    return {name: Measured(number, meanings[name]) for name, number in numbers.items()}


def _meanings(budget: Budget, attacked: Attacked) -> dict[str, str]:
    attack = (
        f"PGD of {budget.steps} steps against the zero-shot classifier, each pixel within "
        f"{round(255 * budget.epsilon)}/255, {attacked.where}"
    )
    return {
        "robust_accuracy": (
            f"share of images that are right both untouched and under untargeted {attack}"
        ),
        "adversarial_target_rate": (
            "share of these adversarial examples, of true classes other than the target, that are "
            f"predicted as the target; {attack}"
        ),
        "adversarial_trigger_cosine": (
            "cosine between what the adversarial change and what the trigger do to an image's "
            f"embedding, mean over images of true classes other than the target; {attack}"
        ),
        "adversarial_trigger_cosine_sideways": (
            "the same without the parts of both along the image's own embedding: whatever takes an "
            f"image far has the way away from itself in common; {attack}"
        ),
    }


def _batches(
    model: Clip, attacked: Attacked, budget: Budget
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield, by image: whether it is still right, whether it is the target now, the cosines."""
    classes = attacked.classes.to(model.device)
    with frozen(model):
        for rows in torch.arange(len(attacked.images)).split(_BATCH):
            images, label = _pixels(attacked.images[rows], model), attacked.label[rows]
            found = pgd(images, misclassification(model, classes, label), budget)
            with torch.no_grad():
                adversarial = model.encode_image(found)
                at = model.encode_image(images)
                triggered = model.encode_image(_pixels(attacked.triggered[rows], model))
            before = (at @ classes.T).argmax(dim=1).cpu()
            predicted = (adversarial @ classes.T).argmax(dim=1).cpu()
            change, wanted = adversarial - at, triggered - at
            alike = F.cosine_similarity(change, wanted, dim=1).cpu()
            sideways = F.cosine_similarity(_off(change, at), _off(wanted, at), dim=1).cpu()
            # The bound holds the image itself: one that is wrong untouched cannot be robust.
            is_right = (before == label) & (predicted == label)
            yield is_right, predicted == attacked.target_label, alike, sideways


def _off(change: Float[Tensor, "batch dim"], at: Float[Tensor, "batch dim"]) -> Tensor:
    """Return a change without its part along the embedding that it changes."""
    along = F.normalize(at, dim=1)
    return change - (change * along).sum(dim=1, keepdim=True) * along


def _pixels(images: UInt8[Tensor, "batch 3 height width"], model: Clip) -> Tensor:
    return images.to(model.device).float() / 255
