"""SafeCLIP: other losses on safe and risky pairs (Yang et al. 2024, arXiv:2310.05862)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from clipmend.data.splits import Pairs
from clipmend.data.streaming import Images
from clipmend.errors import TrainingError
from clipmend.methods.objectives.bank import Bank
from clipmend.methods.objectives.pretraining import Pretraining
from clipmend.methods.settings import Count, Fraction, PositiveFraction
from clipmend.model.autoaugment import Policy
from clipmend.model.batch_losses import caption_views
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Task
from clipmend.model.losses import one_way_loss
from clipmend.model.views import autoaugment, synonym_words


@dataclass(frozen=True)
class SafeCLIP(Pretraining):
    """Minimizes the CLIP loss over safe pairs, and SSL (the self-supervised loss) over risky ones.

    First, all pairs are risky for ``in_modal_epochs``. Then all are safe for one cautious epoch, at
    a rate so low that the model learns little but the majority's associations. From then on, a pair
    is safe if its cosine belongs to the higher of two Gaussians. Before each of these epochs the
    pairs are ranked again, and the share of safe pairs grows.

    Differs from the paper: its cautious epoch has a hundredth of the rate and thousands of steps,
    not 63. Its safe share grows by 1 % in each of 26 epochs, from wherever certainty begins it.
    Cosines here are of pairs without augmentation. One schedule spans all phases; the paper's code
    restarts it. The defaults come from ``studies/tuning/objectives.md``.

    Attributes:
        in_modal_epochs: first epochs, in which all pairs are risky.
        cautious_rate: factor of the learning rate in the cautious epoch.
        certainty: the least probability of the higher Gaussian for a safe pair at first.
        least: the least share of safe pairs at first, the published code's `filter_ratio`; where
            the Gaussians overlap, no pair is certain.
        growth: growth of the share of safe pairs per epoch.
        cap: the largest share of safe pairs.
        bank: number of embeddings of each modality among which positives are looked up.
        policy: AutoAugment's policy for the image views.
    """

    needs: ClassVar[tuple[str, ...]] = ("pretraining",)

    epochs: Count = 32
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
            TrainingError: no epoch remains after the in-modal epochs and the cautious one.
        """
        if self.epochs <= self.in_modal_epochs + 1:
            raise TrainingError(
                f"safeclip cannot divide the pairs: of {self.epochs} epochs, "
                f"{self.in_modal_epochs} are in-modal and 1 is cautious; raise `epochs`."
            )
        lr_scale = (1.0,) * self.in_modal_epochs + (self.cautious_rate,)
        views = [caption_views(model, train.captions, generator) for _ in range(2)]
        banks = [Bank(self.bank, model.embed_dim).to(model.device) for _ in range(2)]
        loss = DividedLoss(train.images, (views[0], views[1]), (banks[0], banks[1]), self.policy)
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

        return Task(train, loss, self.schedule(lr_scale), before_epoch=before_epoch)

    def _safe(
        self, cosines: Float[Tensor, " samples"], loss: "DividedLoss", epoch: int
    ) -> Int[Tensor, " safe"]:
        """Return the rows of the safe pairs; ``epoch`` counts from the first division."""
        probability = probability_of_higher(cosines)
        # Kept in a buffer, so that a killed run goes on with the same share.
        if epoch == 0:
            certain = float((probability > self.certainty).double().mean())
            loss.first_share.fill_(max(certain, self.least))
        share = min(self.cap, float(loss.first_share) + self.growth * epoch)
        return ranked(probability, cosines)[: round(share * len(cosines))]

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA (easy data augmentation) may put into a caption."""
        return synonym_words()


def probability_of_higher(cosines: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Return each cosine's probability under the higher of two Gaussians."""
    values = cosines.double().numpy()[:, None]
    # A fixed seed: the loop's generator must not depend on how many numbers scikit-learn draws.
    mixture = GaussianMixture(2, max_iter=100, tol=1e-3, random_state=0).fit(values)
    higher = int(mixture.means_.argmax())
    return torch.from_numpy(mixture.predict_proba(values)[:, higher])


def ranked(
    probability: Float[Tensor, " samples"], cosines: Float[Tensor, " samples"]
) -> Int[Tensor, " samples"]:
    """Return the rows by falling probability; equal ones by falling cosine."""
    by_cosine = torch.argsort(cosines, descending=True, stable=True)
    return by_cosine[torch.argsort(probability[by_cosine], descending=True, stable=True)]


class DividedLoss(nn.Module):
    """The CLIP loss on batches of safe pairs, SSL on batches of risky ones.

    As in the published code, an epoch is the risky pairs first and then the safe ones. Only the
    number of the loop's batches is used. Safe pairs must be contrasted with each other, and each of
    the loop's batches has only a few of them.

    Image views are sampled for every step, the two views of each caption once, before the loop.

    Attributes:
        text_views: two rows of tokens for each pair.
        first_share: the share of safe pairs at the first division.
    """

    first_share: Tensor

    def __init__(
        self,
        images: Images,
        text_views: tuple[Int[Tensor, "samples context"], Int[Tensor, "samples context"]],
        banks: tuple[Bank, Bank],
        policy: Policy,
    ) -> None:
        super().__init__()
        self.images, self.text_views, self.policy = images, text_views, policy
        self.of_images, self.of_texts = banks
        self.register_buffer("first_share", torch.zeros((), dtype=torch.float64))
        self._steps: list[tuple[Tensor, bool]] = []

    def divide(self, safe: Int[Tensor, " safe"], steps: int, generator: torch.Generator) -> None:
        """Plan an epoch of ``steps`` batches of about equal size."""
        is_safe = torch.zeros(len(self.images), dtype=torch.bool)
        is_safe[safe] = True
        sides = [torch.nonzero(~is_safe).flatten(), torch.nonzero(is_safe).flatten()]
        safe_steps = round(steps * len(sides[1]) / len(self.images))
        # At least one step for each kind, where each has two pairs to contrast.
        if all(len(side) > 1 for side in sides):
            safe_steps = min(max(safe_steps, 1), steps - 1)
        self._steps = []
        for rows, count, kind in zip(
            sides, (steps - safe_steps, safe_steps), (False, True), strict=True
        ):
            order = rows[torch.randperm(len(rows), generator=generator)]
            if count:
                self._steps += [(part, kind) for part in order.tensor_split(count)]
        self._steps.reverse()  # so that `pop` takes the next step

    def get_extra_state(self) -> list[tuple[Tensor, bool]]:
        """Return the remaining steps, so that a killed run resumes in the middle of an epoch."""
        return self._steps

    def set_extra_state(self, state: list[tuple[Tensor, bool]]) -> None:
        """Restore the steps that ``get_extra_state`` returned."""
        self._steps = state

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of the next planned batch."""
        rows, is_safe = self._steps.pop()
        images = self.images[rows]
        views = [autoaugment(images, generator, policy=self.policy) for _ in range(2)]
        texts = [view[rows] for view in self.text_views]
        if is_safe:  # the two directions of the CLIP loss use different views
            first_image, second_image = model.encode_image(torch.cat(views)).chunk(2)
            first_text, second_text = model.encode_text(torch.cat(texts)).chunk(2)
            scale = model.logit_scale()
            to_text = one_way_loss(first_image, second_text, scale)
            return (to_text + one_way_loss(first_text, second_image, scale)) / 2
        image = _within(self.of_images, model.encode_image, views, model.logit_scale())
        text = _within(self.of_texts, model.encode_text, texts, model.logit_scale())
        return (image + text) / 2


def _within(
    bank: Bank, encode: Callable[[Tensor], Tensor], views: list[Tensor], scale: Tensor
) -> Float[Tensor, ""]:
    """Return SSL: the positive of a view is the bank's embedding nearest to the other view."""
    with torch.no_grad():
        first = encode(views[0])
    positives = bank.nearest(first, otherwise=first)
    bank.append(first)
    return one_way_loss(encode(views[1]), positives, scale)
