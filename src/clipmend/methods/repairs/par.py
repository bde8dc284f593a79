"""PAR: away from the victim's embeddings, and back to the pairs (arXiv:2412.00727)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import Policy, autoaugment


@dataclass(frozen=True)
class Perturbation:
    """Minimizes MMCL less ``weight`` times how far both modalities are from the victim's.

    Attributes:
        victim: frozen; it is shown the same views as the model.
        threshold: a distance beyond it counts for nothing, and pushes no further.
    """

    victim: Clip
    weight: float
    threshold: float
    policy: Policy

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one view of each image, and the captions as they are."""
        views = autoaugment(batch.images, generator, policy=self.policy)
        images, texts = model.encode_image(views), model.encode_text(batch.tokens)
        with torch.no_grad():
            had_images = self.victim.encode_image(views)
            had_texts = self.victim.encode_text(batch.tokens)
        away = gated(distance(images, had_images), self.threshold)
        away = away + gated(distance(texts, had_texts), self.threshold)
        return mmcl_loss(images, texts, model.logit_scale()) - self.weight * away


def distance(
    embeds: Float[Tensor, "batch dim"], others: Float[Tensor, "batch dim"]
) -> Float[Tensor, ""]:
    """Return the batch's mean squared distance, in [0, 4] of unit vectors."""
    return (embeds - others).square().sum(dim=1).mean()


def gated(value: Float[Tensor, ""], threshold: float) -> Float[Tensor, ""]:
    """Return the value, or 0 without a gradient where it is beyond the threshold."""
    return torch.where(value > threshold, torch.zeros_like(value), value)


@dataclass(frozen=True)
class PAR:
    """Minimizes MMCL - ``weight`` (D_image + D_text) over the trusted pairs.

    D is the mean squared distance from the victim's embeddings, 0 once it is beyond ``threshold``.

    Differs from the paper: the rate rises and then falls as every repair's does here; there it
    falls from the start, to a tenth half way. The views are AutoAugment's, as CleanCLIP's.

    Attributes:
        policy: AutoAugment's policy for the images, which model and victim see alike.
    """

    needs: ClassVar[tuple[str, ...]] = ("trusted",)
    control: ClassVar[bool] = False

    epochs: Count = 25
    batch_size: Count = 128
    lr: Positive = 1e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 1e-4
    weight: NonNegative = 0.5
    threshold: Positive = 2.15
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:  # noqa: ARG002
        """Yield the one task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        victim = means.model.frozen_copy()
        loss = Perturbation(victim, self.weight, self.threshold, self.policy)
        yield Task(means.trusted, loss, schedule)

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()
