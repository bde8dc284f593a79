"""PAR (Perturb and Recover): away from the victim's embeddings, and back (arXiv:2412.00727)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import cos, pi
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.repairs.image_views import ImageViews
from clipmend.methods.settings import NonNegative, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss

_LOWEST = 0.1  # the learning rate half way, as a share of the first; 3e-6 of 3e-5 in the code


@dataclass(frozen=True)
class PAR(FineTuning):
    """Minimizes MMCL - ``weight`` (D_image + D_text) over the trusted pairs.

    D is the mean squared distance of a modality's embeddings from the victim's. It counts as 0
    once it is beyond ``threshold``. MMCL is the multimodal contrastive loss of CLIP.

    Views, temperature and schedule are those of the authors' code: half of the images have noise
    that only brightens, and half an erased square. A comment there says AutoAugment, but the code
    does not use it. ``par@autoaugment`` is the loss with CleanCLIP's views, a trained temperature
    and the schedule of the other repairs.

    Differs from the paper: the learning rate falls within an epoch as a cosine. It has the
    published value in the middle of each epoch. The code makes the views at the model's image
    size; here they are made at the corpus's size.

    Attributes:
        views: the image views, which both models see: ``noise_erase`` as published,
            ``autoaugment``, or ``none`` for the images themselves.
        policy: AutoAugment's policy.
        decay: the course of the learning rate. ``published``: it falls from the start, to a tenth
            half way, and then as a cosine to zero. ``cosine``: as in all other repairs.
        warmup: share of the steps over which the rate rises to its peak, with ``decay: cosine``.
        temperature: whether the temperature of MMCL is ``fixed``, as published, or ``trained``.
        weight: weight of the two distances.
        threshold: the squared distance beyond which a distance counts as 0; two unit vectors are
            at most 4 apart.
    """

    lr: Positive = 3e-3
    weight_decay: NonNegative = 1e-4
    views: Literal["noise_erase", "autoaugment", "none"] = "noise_erase"
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    decay: Literal["published", "cosine"] = "published"
    temperature: Literal["fixed", "trained"] = "fixed"
    weight: NonNegative = 0.5
    threshold: Positive = 2.15

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the task."""
        loss = partial(self.perturbation, assets.model.frozen_copy())
        yield Task(assets.trusted(), loss, self.schedule())

    def schedule(self) -> Schedule:
        """Return the schedule of the training loop."""
        if self.decay == "cosine":
            return super().schedule()
        return replace(super().schedule(), warmup=0.0, lr_scale=published_scale(self.epochs))

    def perturbation(
        self, victim: Clip, model: Clip, batch: Batch, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the loss of one view of each image, with the captions unchanged."""
        # Other views for the victim would measure the augmentation, not the model's movement.
        views = ImageViews(self.views, self.policy, model)(batch.images, generator)
        images, texts = model.encode_image(views), model.encode_text(batch.tokens)
        with torch.no_grad():
            victim_images = victim.encode_image(views)
            victim_texts = victim.encode_text(batch.tokens)
        away = gated(distance(images, victim_images), self.threshold)
        away = away + gated(distance(texts, victim_texts), self.threshold)
        scale = model.logit_scale()
        scale = scale.detach() if self.temperature == "fixed" else scale
        return mmcl_loss(images, texts, scale) - self.weight * away


def published_scale(epochs: int) -> tuple[float, ...]:
    """Return the factors of the loop's cosine that give PAR's learning rate, one for each epoch."""
    factors = []
    for epoch in range(epochs):
        done = (epoch + 0.5) / epochs
        # The published rate as a share of the peak, and that of the loop without a warm-up.
        falling = 1 - (1 - _LOWEST) * 2 * done
        published = falling if done < 0.5 else _LOWEST * (1 + cos(pi * (2 * done - 1))) / 2
        factors.append(published / ((1 + cos(pi * done)) / 2))
    return tuple(factors)


def distance(
    embeds: Float[Tensor, "batch dim"], others: Float[Tensor, "batch dim"]
) -> Float[Tensor, ""]:
    """Return the batch's mean squared distance, in [0, 4] for unit vectors."""
    return (embeds - others).square().sum(dim=1).mean()


def gated(value: Float[Tensor, ""], threshold: float) -> Float[Tensor, ""]:
    """Return the value, or 0 without a gradient where it is beyond the threshold."""
    return torch.where(value > threshold, torch.zeros_like(value), value)
