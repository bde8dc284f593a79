"""InverTune: invert the trigger, and calm the neurons that it moves (arXiv:2506.12411)."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from clipmend.data.splits import Pairs
from clipmend.data.words import words_of
from clipmend.errors import TrainingError
from clipmend.methods.interfaces import Assets, Repair
from clipmend.methods.repairs.critical_neurons import (
    STAGES,
    CalmingLoss,
    changes,
    critical_neurons,
    stages_of,
)
from clipmend.methods.repairs.trigger_inversion import Inversion, Target, Weights
from clipmend.methods.repairs.ubt_plan import few_shot
from clipmend.methods.settings import Count, DetectorName, Fraction, NonNegative, Positive, Several
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Schedule, Task

logger = logging.getLogger(__name__)

_NOTHING = "-"  # the prefix of no parameter: the inversion trains its own alone


@dataclass(frozen=True)
class InverTune(Repair):
    """Inverts a trigger for the word of UBT's finding, and then undoes its effect on neurons.

    UBT is Unlearning Backdoor Threats. The steps:

    1. Target: the word that the most suspect captions share, as in ``ubt``. Without such a word,
       the model stays as it is.
    2. Inversion: a mask and a pattern lead trusted images to captions with the word.
    3. Tuning: in the ``layers`` stages of the image tower that the inverted trigger moves the
       most, two clusters of |change| separate critical neurons from others. On one batch of
       trusted images, the triggered activations of critical neurons approach the clean ones, and
       the embeddings of clean images stay.

    Differs from the paper: there an adversarial patch of a generative network gives the target
    among the classes of labeled images. The cross-entropy here has the captions of the batch as
    other classes. A vision transformer's stages are four equal parts of its blocks. The learning
    rate of the inversion falls as a cosine, as in all training here.

    Attributes:
        detector: the detector whose suspects give the word.
        pairs: the largest number of suspects whose captions are searched for the word.
        least_excess: by how much the suspects' captions must exceed all captions in the share
            that has the word.
        inversion_epochs: passes over the trusted pairs in the inversion; published: 1,000 steps.
        inversion_lr: its peak learning rate; published: 0.01.
        text_weight: weight of the cross-entropy with the word's captions.
        image_weight: weight of the distance from trusted images of the word.
        similarity_weight: weight of the change of the images.
        mask_weight: weight of the sum of the mask.
        layers: number of stages that are tuned; published: 3 of 4.
        epochs: steps of the tuning, each on the same batch; published: 200.
        batch_size: trusted images in this batch, and in a batch of the inversion; published: 64.
        lr: the peak learning rate of the tuning; published: 2e-6.
        weight_decay: AdamW's weight decay in the tuning, of weight matrices only.
        retain_weight: weight of the drift of the clean images' embeddings; published: 0.5.
    """

    detector: DetectorName = "ubt"
    pairs: Count = 64
    least_excess: Fraction = 0.65
    inversion_epochs: Count = 30
    inversion_lr: Positive = 3e-2
    text_weight: NonNegative = 5.0
    image_weight: NonNegative = 0.5
    similarity_weight: NonNegative = 1.0
    mask_weight: NonNegative = 0.01
    layers: Count = 3
    epochs: Count = 200
    batch_size: Several = 64
    lr: Positive = 3e-4
    weight_decay: NonNegative = 1e-4
    retain_weight: NonNegative = 5.0

    @property
    def needs(self) -> tuple[str, ...]:
        """The pairs that a defender must have."""
        return ("train", "trusted")

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the inversion, then the tuning; nothing without a word.

        Raises:
            TrainingError: fewer than two trusted captions lack the word.
            ModelError: the image tower has no stages.
        """
        stages_of(assets.model)  # refuses other image towers before any training
        train, scores = assets.train(), assets.scores()
        most, least = self.pairs, self.least_excess
        found = few_shot(
            scores.score, scores.suspects, train.captions, most=most, least_excess=least
        )
        if not len(found.rows):
            logger.warning(
                "invertune: the suspects of %s share no word, so there is no target to invert; "
                "the model is unchanged.",
                self.detector,
            )
            return
        trusted = assets.trusted()
        has_word = torch.tensor([found.word in words_of(text) for text in trusted.captions])
        others = trusted.take((~has_word).nonzero().squeeze(1))
        if len(others) < 2:
            raise TrainingError(
                f"invertune: {len(others)} of {len(trusted)} trusted captions lack {found.word!r}, "
                "and the inversion needs at least 2; add trusted pairs of other classes."
            )
        captions = [train.captions[row] for row in found.rows.tolist()]
        of_word = trusted.take(has_word.nonzero().squeeze(1))
        target = target_of(assets.model, captions, of_word)
        inversion = self._inversion(target, others, generator).to(assets.model.device)
        yield Task(others, inversion, self._inversion_schedule())
        rows = torch.randperm(len(others), generator=generator)[: self.batch_size]
        yield self._tuning(assets.model, inversion, others.take(rows), generator)

    def _inversion(self, target: Target, others: Pairs, generator: torch.Generator) -> Inversion:
        start = torch.rand(2, *others.images[:1].shape[1:], generator=generator)
        weights = Weights(
            self.text_weight, self.image_weight, self.similarity_weight, self.mask_weight
        )
        return Inversion(start, target, weights)

    def _inversion_schedule(self) -> Schedule:
        return Schedule(
            self.inversion_epochs,
            self.batch_size,
            self.inversion_lr,
            warmup=0.0,
            weight_decay=0.0,
            trainable=(_NOTHING,),
            frozen_statistics=True,
        )

    def _tuning(
        self, model: Clip, inversion: Inversion, batch: Pairs, generator: torch.Generator
    ) -> Task:
        images = batch.images[:].to(model.device)
        with torch.no_grad():
            triggered = inversion.on(images.float() / 255)
        moved = changes(model, images, triggered)
        largest = sorted(range(STAGES), key=lambda number: -moved[number][1])[: self.layers]
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        loss = CalmingLoss(
            numbers=tuple(sorted(largest)),
            critical=tuple(critical_neurons(moved[n][0], seed=seed) for n in sorted(largest)),
            triggered=triggered,
            anchors=embed_images(model, batch.images),
            weight=self.retain_weight,
        )
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            warmup=0.0,
            weight_decay=self.weight_decay,
            frozen_statistics=True,
        )
        return Task(batch, loss, schedule)


def target_of(model: Clip, captions: Sequence[str], of_word: Pairs) -> Target:
    """Return the mean embeddings of the target's captions and images, both L2-normalized."""
    text = embed_texts(model, model.tokenize(captions)).mean(dim=0)
    image = embed_images(model, of_word.images).mean(dim=0) if len(of_word) else None
    return Target(F.normalize(text, dim=0), None if image is None else F.normalize(image, dim=0))
