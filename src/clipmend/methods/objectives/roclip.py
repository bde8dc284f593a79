"""RoCLIP: images matched with captions of a pool instead of their own (Yang et al. 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipmend.data.splits import Pairs
from clipmend.methods.objectives.bank import Bank
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive, PositiveFraction
from clipmend.model.batch_losses import caption_views
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import Policy, autoaugment, synonym_words


@dataclass(frozen=True)
class RoCLIP:
    """Minimizes MMCL over augmented training pairs (arXiv:2303.06854).

    In every ``every``-th epoch an image's pair is not its own caption, but the one nearest to it in
    a pool of the latest captions, so that a caption that an image does not show is not learnt.

    Differs from the paper: there every second epoch matches, from a pool of 2 % of the captions.
    An epoch here is 63 steps, not thousands: matched with every second one, the towers never agree
    (``docs/tuning_objectives.md``).

    Attributes:
        pool: size of the pool, as a share of the training pairs; the published code has 21,845
            captions for a million pairs.
        matching_rate: the learning rate of matching epochs, as a share of the other epochs'.
        policy: AutoAugment's policy for the images.
    """

    needs: ClassVar[tuple[str, ...]] = ("pretraining",)

    epochs: Count = 36
    batch_size: Count = 128
    lr: Positive = 2e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    early_epoch: Count = 1
    every: Count = 3
    pool: PositiveFraction = 0.25
    matching_rate: PositiveFraction = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task."""
        shares = [self.matching_rate if self._matches(e) else 1.0 for e in range(self.epochs)]
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            self.warmup,
            self.weight_decay,
            lr_scale=tuple(shares),
        )
        bank = Bank(max(1, round(self.pool * len(train))), model.embed_dim)
        views = caption_views(model, train.captions, generator)
        loss = Matched(bank.to(model.device), views, policy=self.policy)

        def before_epoch(model: Clip, epoch: int, generator: torch.Generator) -> None:  # noqa: ARG001
            loss.matches = self._matches(epoch)

        return Task(train, loss, schedule, before_epoch=before_epoch)

    def _matches(self, epoch: int) -> bool:
        return (epoch + 1) % self.every == 0

    def head(self) -> Mapping[str, float]:
        """Return nothing: logits are CLIP's."""
        return {}

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA may bring in."""
        return synonym_words()


class Matched(nn.Module):
    """MMCL between augmented images and captions, their own or the pool's nearest.

    The text tower stands still while images are matched with the pool: what is in it has no
    gradient, as in the published code.

    Differs from the paper: its code renews the pool in matching epochs only; here captions enter it
    in all of them, since a pool as old as an epoch is of another model when there are few epochs.

    Attributes:
        matches: whether images are matched with the pool; set before each epoch.
    """

    def __init__(
        self, bank: Bank, text_views: Int[Tensor, "samples context"], policy: Policy
    ) -> None:
        super().__init__()
        self.bank, self.text_views, self.policy = bank, text_views, policy
        self.matches = False

    def get_extra_state(self) -> bool:
        """Return what was set before the epoch: a killed one goes on from its middle."""
        return self.matches

    def set_extra_state(self, state: bool) -> None:
        """Take back what ``get_extra_state`` returned."""
        self.matches = state

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of the batch's views; the pool is asked before it takes them in."""
        images = model.encode_image(autoaugment(batch.images, generator, policy=self.policy))
        with torch.set_grad_enabled(not self.matches):
            texts = model.encode_text(self.text_views[batch.rows])
        paired = self.bank.nearest(images, otherwise=texts) if self.matches else texts
        self.bank.append(texts)
        return mmcl_loss(images, paired, model.logit_scale())
