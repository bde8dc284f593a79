"""CleanCLIP: fine-tuning on trusted pairs with MMCL and SSL (arXiv:2303.03323).

MMCL is the multimodal contrastive loss of CLIP. SSL is a self-supervised contrastive loss of each
modality with augmented views of itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.data.streaming import join_images
from clipmend.errors import TrainingError
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.deep_clustering import clustered
from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.settings import Fraction, Natural, NonNegative, Several
from clipmend.model.batch_losses import SelfSupervised, caption_views, multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Loss, Task
from clipmend.model.views import synonym_words


@dataclass(frozen=True)
class CleanCLIP(FineTuning):
    """Minimizes ``mmcl_weight`` MMCL + ``ssl_weight`` SSL over the trusted pairs.

    The settings from ``pairs`` on are tried in arXiv:2311.14948 where this loss alone fails.

    Attributes:
        mmcl_weight: weight of MMCL.
        ssl_weight: weight of SSL.
        policy: AutoAugment's policy for the image views.
        pairs: number of trusted pairs used, the first ones; 0: all of them.
        poisons: number of trusted pairs replaced by poisoned pairs, as if an attacker had reached
            the trusted set. Any number above 0 makes the repair a control.
        shrink: factor of the victim's parameters at the start.
        perturb: factor of an untrained model's parameters, which are added at the start.
        clusters: clusters of deep clustering, whose cross-entropy is added to the loss; 0: none.
        clustering_weight: weight of this cross-entropy.
    """

    batch_size: Several = 64
    mmcl_weight: NonNegative = 1.0
    ssl_weight: NonNegative = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    pairs: Natural = 0
    poisons: Natural = 0
    shrink: Fraction = 1.0
    perturb: NonNegative = 0.0
    clusters: Natural = 0
    clustering_weight: NonNegative = 5.0

    @property
    def needs(self) -> tuple[str, ...]:
        """The pairs that a defender must have: training pairs only for ``poisons``."""
        return ("trusted", "train") if self.poisons else ("trusted",)

    @property
    def control(self) -> bool:
        """Whether the poison marks are read, to put poison among the trusted pairs."""
        return self.poisons > 0

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the task.

        Raises:
            TrainingError: both weights are 0, or there are too few pairs, poisons or images.
        """
        pairs = cleaning_pairs(assets, pairs=self.pairs, poisons=self.poisons)
        shrink_and_perturb(assets, shrink=self.shrink, perturb=self.perturb, generator=generator)
        loss = self._loss(assets.model, pairs.captions, generator)
        task = Task(pairs, loss, self.schedule())
        if self.clusters:
            task = clustered(task, assets.model, self.clusters, self.clustering_weight)
        yield task

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA (easy data augmentation) may put into a caption."""
        return synonym_words() if self.ssl_weight else ()

    def _loss(self, model: Clip, captions: Sequence[str], generator: torch.Generator) -> Loss:
        if not self.mmcl_weight and not self.ssl_weight:
            raise TrainingError("`mmcl_weight` and `ssl_weight` are both 0; raise one of them.")
        if self.ssl_weight:
            views = caption_views(model, captions, generator)
            return SelfSupervised(views, self.mmcl_weight, self.ssl_weight, self.policy)

        def weighted(model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
            return self.mmcl_weight * multimodal(model, batch, generator)

        return weighted


def cleaning_pairs(assets: Assets, *, pairs: int, poisons: int) -> Pairs:
    """Return the first ``pairs`` trusted pairs (0: all), the last of them replaced by poison.

    Raises:
        TrainingError: there are fewer trusted or poisoned pairs than that.
    """
    trusted = assets.trusted()
    count = pairs or len(trusted)
    if count > len(trusted):
        raise TrainingError(
            f"cleanclip asks for {count} trusted pairs, but the corpus has {len(trusted)}; "
            "lower `pairs` or add trusted pairs to the corpus."
        )
    if poisons > count:
        raise TrainingError(
            f"cleanclip cannot replace {poisons} trusted pairs by poison: it uses only {count} "
            "pairs; lower `poisons`."
        )
    kept = count - poisons
    # `take` copies the images, so all trusted pairs are used as they are.
    clean = trusted if kept == len(trusted) else trusted.take(torch.arange(kept))
    if not poisons:
        return clean
    poisoned = assets.is_poisoned().nonzero()[:poisons, 0]
    if len(poisoned) < poisons:
        raise TrainingError(
            f"cleanclip cannot put {poisons} poisoned pairs among the trusted ones: this victim's "
            f"training pairs have {len(poisoned)}; lower `poisons`."
        )
    leaked = assets.train().take(poisoned)
    return Pairs(
        ids=clean.ids + leaked.ids,
        images=join_images([clean.images, leaked.images]),
        captions=clean.captions + leaked.captions,
        label=torch.cat([clean.label, leaked.label]),
        is_poisoned=torch.cat([clean.is_poisoned, leaked.is_poisoned]),
    )


def shrink_and_perturb(
    assets: Assets, *, shrink: float, perturb: float, generator: torch.Generator
) -> None:
    """Replace each parameter p by ``shrink`` p + ``perturb`` q, with q from an untrained model.

    Ash and Adams 2020, arXiv:1910.08475. The statistics of batch norm stay.
    """
    # Returns before the generator is used, so that the default leaves its stream as it was.
    if shrink == 1 and perturb == 0:
        return
    fresh = assets.fresh(int(torch.randint(2**31, (), generator=generator)))
    parameters = zip(assets.model.net.parameters(), fresh.net.parameters(), strict=True)
    with torch.no_grad():
        for parameter, other in parameters:
            parameter.mul_(shrink).add_(other, alpha=perturb)
