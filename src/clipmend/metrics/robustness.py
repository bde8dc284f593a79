"""Robustness to adversarial examples, and the similarity of these to triggered images."""

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
    """The images that are attacked, without and with the trigger, and the classifier.

    Attributes:
        images: clean images, 8 bits.
        triggered: the same images with the trigger.
        label: true classes.
        classes: class embeddings of the zero-shot classifier, which the attack knows.
        target_label: the target class of the trigger.
    """

    images: UInt8[Tensor, "samples 3 height width"]
    triggered: UInt8[Tensor, "samples 3 height width"]
    label: Int[Tensor, " samples"]
    classes: Float[Tensor, "classes dim"]
    target_label: int

    @property
    def where(self) -> str:
        """The images in words, for definitions."""
        return f"on {len(self.images)} test images, the same for all, sampled by id"


def robustness(
    model: Clip, attacked: Attacked, budget: Budget, *, confidence: float
) -> dict[str, Measured]:
    """Return the accuracy under attack, and how similar the attack is to the trigger.

    The attack is untargeted projected gradient descent (PGD) on the cross-entropy of the zero-shot
    classifier. It starts from the images and moves the pixels of the corpus.

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
            f"share of images classified correctly both clean and under untargeted {attack}"
        ),
        "adversarial_target_rate": (
            "share of these adversarial examples, of true classes other than the target, that are "
            f"predicted as the target; {attack}"
        ),
        "adversarial_trigger_cosine": (
            "cosine between the changes of an image's embedding by the attack and by the trigger, "
            f"mean over images of true classes other than the target; {attack}"
        ),
        "adversarial_trigger_cosine_sideways": (
            "the same cosine with the component along the image's own embedding removed, which any "
            f"large change shares; {attack}"
        ),
    }


def _batches(
    model: Clip, attacked: Attacked, budget: Budget
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield for each image: is it still correct, is it predicted as the target, both cosines."""
    classes = attacked.classes.to(model.device)
    with frozen(model):
        for rows in torch.arange(len(attacked.images)).split(_BATCH):
            images, label = _pixels(attacked.images[rows], model), attacked.label[rows]
            attacked_images = pgd(images, misclassification(model, classes, label), budget)
            with torch.no_grad():
                adversarial = model.encode_image(attacked_images)
                clean = model.encode_image(images)
                triggered = model.encode_image(_pixels(attacked.triggered[rows], model))
            before = (clean @ classes.T).argmax(dim=1).cpu()
            predicted = (adversarial @ classes.T).argmax(dim=1).cpu()
            change, trigger = adversarial - clean, triggered - clean
            alike = F.cosine_similarity(change, trigger, dim=1).cpu()
            sideways = F.cosine_similarity(_off(change, clean), _off(trigger, clean), dim=1).cpu()
            # The attack may leave an image unchanged: one that is wrong clean cannot be robust.
            is_right = (before == label) & (predicted == label)
            yield is_right, predicted == attacked.target_label, alike, sideways


def _off(change: Float[Tensor, "batch dim"], clean: Float[Tensor, "batch dim"]) -> Tensor:
    """Return a change without its component along the clean embedding."""
    along = F.normalize(clean, dim=1)
    return change - (change * along).sum(dim=1, keepdim=True) * along


def _pixels(images: UInt8[Tensor, "batch 3 height width"], model: Clip) -> Tensor:
    return images.to(model.device).float() / 255
