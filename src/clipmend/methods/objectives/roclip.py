"""RoCLIP: images are matched with captions of a pool (Yang et al. 2023, arXiv:2303.06854)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipmend.data.splits import Pairs
from clipmend.methods.objectives.bank import Bank
from clipmend.methods.objectives.pretraining import Pretraining
from clipmend.methods.settings import Count, PositiveFraction
from clipmend.model.autoaugment import Policy
from clipmend.model.batch_losses import caption_views
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Task
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import autoaugment, synonym_words


@dataclass(frozen=True)
class RoCLIP(Pretraining):
    """Minimizes MMCL (the multimodal contrastive loss) over augmented training pairs.

    In every ``every``-th epoch, an image is matched with the caption that is nearest to it in a
    pool of the latest captions. So the model does not learn a caption that its image does not show.

    Differs from the paper: there, every second epoch matches, with a pool of 2 % of the captions.
    An epoch here has 63 steps, not thousands. With matching in every second epoch, the two towers
    never agree (``studies/tuning/objectives.md``).

    Attributes:
        every: one epoch in this many is a matching epoch.
        pool: size of the pool, as a share of the training pairs; the published code has 21,845
            captions for a million pairs.
        matching_rate: factor of the learning rate in matching epochs.
        policy: AutoAugment's policy for the images.
    """

    needs: ClassVar[tuple[str, ...]] = ("pretraining",)

    epochs: Count = 36
    every: Count = 3
    pool: PositiveFraction = 0.25
    matching_rate: PositiveFraction = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task."""
        matches = [(epoch + 1) % self.every == 0 for epoch in range(self.epochs)]
        scale = tuple(self.matching_rate if is_matching else 1.0 for is_matching in matches)
        bank = Bank(max(1, round(self.pool * len(train))), model.embed_dim)
        views = caption_views(model, train.captions, generator)
        loss = MatchingLoss(bank.to(model.device), views, policy=self.policy)

        def before_epoch(model: Clip, epoch: int, generator: torch.Generator) -> None:
            loss.matches = matches[epoch]

        return Task(train, loss, self.schedule(scale), before_epoch=before_epoch)

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA (easy data augmentation) may put into a caption."""
        return synonym_words()


class MatchingLoss(nn.Module):
    """MMCL of augmented images and captions, either their own or the nearest of the pool.

    The text tower is not trained in matching epochs, because the pool has no gradient, as in the
    published code.

    Differs from the paper: its code updates the pool in matching epochs only. Here captions enter
    it in all epochs, because with few epochs a pool as old as one epoch belongs to another model.

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
        """Return ``matches``, so that a killed run resumes in the middle of an epoch."""
        return self.matches

    def set_extra_state(self, state: bool) -> None:
        """Restore the value that ``get_extra_state`` returned."""
        self.matches = state

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of the batch's views; the captions enter the pool after the matching."""
        images = model.encode_image(autoaugment(batch.images, generator, policy=self.policy))
        with torch.set_grad_enabled(not self.matches):
            texts = model.encode_text(self.text_views[batch.rows])
        # Before `append`: an image must not be matched with its own caption.
        matched = self.bank.nearest(images, otherwise=texts) if self.matches else texts
        self.bank.append(texts)
        return mmcl_loss(images, matched, model.logit_scale())
