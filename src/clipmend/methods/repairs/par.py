"""PAR (Perturb and Recover): away from the victim's embeddings, and back (arXiv:2412.00727)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.settings import NonNegative, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Task
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import autoaugment


@dataclass(frozen=True)
class PAR(FineTuning):
    """Minimizes MMCL - ``weight`` (D_image + D_text) over the trusted pairs.

    D is the mean squared distance of a modality's embeddings from the victim's. It counts as 0
    once it is beyond ``threshold``.

    Differs from the paper: the learning rate rises and then falls, as in every repair here. There
    it falls from the start, to a tenth half way. The views are AutoAugment's, as in CleanCLIP.

    Attributes:
        weight: weight of the two distances.
        threshold: the squared distance beyond which a distance counts as 0; two unit vectors are
            at most 4 apart.
        policy: AutoAugment's policy for the image views, which both models see.
    """

    lr: Positive = 1e-2
    weight_decay: NonNegative = 1e-4
    weight: NonNegative = 0.5
    threshold: Positive = 2.15
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the task."""
        loss = partial(self.perturbation, assets.model.frozen_copy())
        yield Task(assets.trusted(), loss, self.schedule())

    def perturbation(
        self, victim: Clip, model: Clip, batch: Batch, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the loss of one view of each image, with the captions unchanged."""
        # Other views for the victim would measure the augmentation, not the model's movement.
        views = autoaugment(batch.images, generator, policy=self.policy)
        images, texts = model.encode_image(views), model.encode_text(batch.tokens)
        with torch.no_grad():
            victim_images = victim.encode_image(views)
            victim_texts = victim.encode_text(batch.tokens)
        away = gated(distance(images, victim_images), self.threshold)
        away = away + gated(distance(texts, victim_texts), self.threshold)
        return mmcl_loss(images, texts, model.logit_scale()) - self.weight * away


def distance(
    embeds: Float[Tensor, "batch dim"], others: Float[Tensor, "batch dim"]
) -> Float[Tensor, ""]:
    """Return the batch's mean squared distance, in [0, 4] for unit vectors."""
    return (embeds - others).square().sum(dim=1).mean()


def gated(value: Float[Tensor, ""], threshold: float) -> Float[Tensor, ""]:
    """Return the value, or 0 without a gradient where it is beyond the threshold."""
    return torch.where(value > threshold, torch.zeros_like(value), value)
