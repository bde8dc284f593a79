"""SafeCLIP: the CLIP loss on pairs that look safe, each modality by itself on the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from sklearn.mixture import GaussianMixture
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.objectives.bank import Bank
from clipmend.methods.objectives.divided import Divided
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive, PositiveFraction
from clipmend.model.batch_losses import caption_views
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Schedule, Task
from clipmend.model.views import synonym_words


@dataclass(frozen=True)
class SafeCLIP:
    """Minimizes the CLIP loss over safe pairs, and SSL over the others (arXiv:2310.05862).

    First all pairs are risky, for ``in_modal_epochs``; then all are safe for one epoch, at a rate
    so low that little is learnt but what most pairs teach. From then on a pair is safe if its
    cosine lies in the higher of two Gaussians; the share of safe pairs grows, and pairs are ranked
    anew, with every epoch.

    Differs from the paper: its cautious epoch has a hundredth of the rate, over thousands of steps,
    not 63; its safe share grows by 1 % in each of 26 epochs from wherever certainty begins it.
    Cosines are of plain pairs, and one schedule runs over all phases, which the paper's code
    restarts. Defaults: ``docs/tuning_objectives.md``.

    Attributes:
        cautious_rate: the rate of the first epoch over pairs, as a share of the peak.
        certainty: the least probability of the higher Gaussian with which a pair is safe at first.
        least: the least share of safe pairs at first; the published code's `filter_ratio`. Where
            the Gaussians overlap, no pair is certain.
        growth: by how much the share of safe pairs grows in an epoch.
        cap: the largest share of safe pairs.
        bank: how many embeddings of each modality positives are looked up in.
        policy: AutoAugment's policy for the image views.
    """

    needs: ClassVar[tuple[str, ...]] = ("pretraining",)

    epochs: Count = 32
    batch_size: Count = 128
    lr: Positive = 2e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    early_epoch: Count = 7
    in_modal_epochs: Count = 5
    cautious_rate: PositiveFraction = 0.3
    certainty: Fraction = 0.9
    least: Fraction = 0.5
    growth: Fraction = 0.03
    cap: PositiveFraction = 0.75
    bank: Count = 256
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task.

        Raises:
            TrainingError: no epoch would be left for the safe pairs.
        """
        if self.epochs <= self.in_modal_epochs + 1:
            raise TrainingError(
                f"safeclip cannot divide the pairs: of {self.epochs} epochs, "
                f"{self.in_modal_epochs} are in-modal and 1 is cautious; raise `epochs`."
            )
        lr_scale = (1.0,) * self.in_modal_epochs + (self.cautious_rate,)
        schedule = Schedule(
            self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay, lr_scale=lr_scale
        )
        views = [caption_views(model, train.captions, generator) for _ in range(2)]
        banks = (self._bank(model), self._bank(model))
        loss = Divided(train.images, (views[0], views[1]), banks, self.policy)
        tokens = model.tokenize(train.captions)
        steps = ceil(len(train) / self.batch_size)

        def before_epoch(model: Clip, epoch: int, generator: torch.Generator) -> None:
            if epoch < self.in_modal_epochs:
                safe = torch.empty(0, dtype=torch.long)
            elif epoch == self.in_modal_epochs:
                safe = torch.arange(len(train))
            else:
                images = embed_images(model, train.images)
                cosines = (images * embed_texts(model, tokens)).sum(dim=1)
                safe = self._safe(cosines, loss, epoch - self.in_modal_epochs - 1)
            loss.divide(safe, steps, generator)

        return Task(train, loss, schedule, before_epoch=before_epoch)

    def _bank(self, model: Clip) -> Bank:
        return Bank(self.bank, model.embed_dim).to(model.device)

    def _safe(
        self, cosines: Float[Tensor, " samples"], loss: Divided, epoch: int
    ) -> Int[Tensor, " safe"]:
        """Return the rows of the safe pairs in an epoch, counted from the first division."""
        probability = probability_of_higher(cosines)
        if epoch == 0:
            certain = float((probability > self.certainty).double().mean())
            loss.first_share.fill_(max(certain, self.least))
        share = min(self.cap, float(loss.first_share) + self.growth * epoch)
        return ranked(probability, cosines)[: round(share * len(cosines))]

    def head(self) -> Mapping[str, float]:
        """Return nothing: logits are CLIP's."""
        return {}

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA may bring in."""
        return synonym_words()


def probability_of_higher(cosines: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Return each cosine's probability of being of the higher of two Gaussians."""
    values = cosines.double().numpy()[:, None]
    mixture = GaussianMixture(2, max_iter=100, tol=1e-3, random_state=0).fit(values)
    higher = int(mixture.means_.argmax())
    return torch.from_numpy(mixture.predict_proba(values)[:, higher])


def ranked(
    probability: Float[Tensor, " samples"], cosines: Float[Tensor, " samples"]
) -> Int[Tensor, " samples"]:
    """Return the rows, most probable first; of equally probable ones, the higher cosine first."""
    by_cosine = torch.argsort(cosines, descending=True, stable=True)
    return by_cosine[torch.argsort(probability[by_cosine], descending=True, stable=True)]
