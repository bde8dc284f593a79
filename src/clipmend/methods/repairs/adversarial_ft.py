"""Adversarial fine-tuning: trusted pairs whose images were made to miss their captions.

Madry et al. 2018, arXiv:1706.06083; of a CLIP, by its own contrast: TeCoA, arXiv:2212.07016.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.metrics.adversarial import Budget, adversarial_examples
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class Adversarial:
    """Minimizes MMCL of attacked images, and by ``clean`` as a share that of untouched ones.

    The attack makes an image miss its own caption among the batch's, on the model as it is then.
    """

    budget: Budget
    clean: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch; both kinds of image share their batch statistics."""
        images = batch.images.to(model.device).float() / 255
        texts, scale = model.encode_text(batch.tokens), model.logit_scale()
        attacked = adversarial_examples(model, images, texts, "mismatch", self.budget, generator)
        if self.clean == 0:
            return mmcl_loss(model.encode_image(attacked), texts, scale)
        embeds, found = model.encode_image(torch.cat([images, attacked])).chunk(2)
        untouched = mmcl_loss(embeds, texts, scale)
        return self.clean * untouched + (1 - self.clean) * mmcl_loss(found, texts, scale)


@dataclass(frozen=True)
class AdversarialFT:
    """Minimizes MMCL over the trusted pairs, their images within ``epsilon`` of the real ones.

    Differs from the paper: TeCoA trains the image tower against the prompts of labeled classes;
    here both towers learn from captions, without labels.

    Attributes:
        epsilon: the largest change of a pixel, of 255.
        steps: of projected gradient ascent, for each batch.
        clean: share of the loss that untouched images have.
    """

    needs: ClassVar[tuple[str, ...]] = ("trusted",)
    control: ClassVar[bool] = False

    epochs: Count = 25
    batch_size: Count = 128
    lr: Positive = 3e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    epsilon: Positive = 2
    steps: Count = 3
    clean: Fraction = 0.5

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:  # noqa: ARG002
        """Yield the one task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        loss = Adversarial(Budget(self.epsilon / 255, self.steps), self.clean)
        yield Task(means.trusted, loss, schedule)

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()
