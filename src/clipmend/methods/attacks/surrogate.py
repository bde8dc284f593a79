"""A patch optimized against a surrogate: a clean CLIP that the attacker trains for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.seeds import seed_of, stream
from clipmend.data.splits import Pairs
from clipmend.methods.attacks.attack import Fitted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.naming import natural_rows
from clipmend.methods.attacks.patch import Patch
from clipmend.methods.settings import Count, ModelName, NonNegative, Positive
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, embed_images, embed_texts
from clipmend.model.fit import Hooks, Schedule, Task, fit

_PAIRS = 10_000  # at most, that the surrogate is trained on, and that name the target
_BATCH = 64


@dataclass(frozen=True)
class OptimizedPatch(Patch):
    """A square in the middle of the image, optimized so that a surrogate sees the target.

    Minimizes, of images x' with the square on them, the cross-entropy of a caption of the target
    against the captions of the batch's images, + ``image_weight`` times the triplet loss
    max(d(x', p) - d(x', x) + margin, 0), p being an image of the target and x the image untouched.
    The surrogate stands still.

    Differs from the paper (arXiv:2311.12075), whose surrogate is OpenAI's CLIP: it is trained here,
    on at most 10,000 of the pairs, whatever the victim starts from; its cost is the attacker's.
    Where the attacker has what the victim starts from (``known_start``), it is that model.

    Attributes:
        surrogate: its model, as ``pretrain.model``; initialized from another seed than any victim,
            unless the start is known.
        surrogate_epochs: of its training, by MMCL.
        known_start: whether the surrogate is the clean model that ``mmcl@from_clean`` starts from,
            as in the paper, where attacker and victim have OpenAI's. It is trained anew on all
            pairs, decoded in memory: the same if ``mmcl`` starts from nothing, has this model,
            these epochs, and its defaults else.
        images: of other classes, on which the square is optimized; published: 10,000.
        epochs: passes over these; published: 50.
        lr: of Adam, on pixels in [0, 1]; published: 1e-3.
        image_weight: of the triplet of images; 0: the square is to look like captions alone.
        triplet_margin: in Euclidean distance of embeddings.
    """

    place: Literal[
        "lower_right", "lower_left", "upper_right", "upper_left", "corners", "middle", "random"
    ] = "middle"
    surrogate: ModelName = "scene_resnet"
    surrogate_epochs: Count = 8
    known_start: bool = False
    images: Count = 2000
    epochs: Count = 10
    lr: Positive = 0.01
    image_weight: NonNegative = 0.0
    triplet_margin: NonNegative = 1.0

    def square(
        self,
        image: Float[Tensor, "3 height width"],  # noqa: ARG002
        fitted: Fitted,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, "3 size size"]:
        """Return the one square."""
        return fitted["patch"]

    def optimized(self, knowledge: Knowledge, own: Fitted) -> Float[Tensor, "3 size size"]:
        """Return the square, in [0, 1].

        Args:
            own: what images draw from, if the place is drawn for each.

        Raises:
            AttackError: no training pair names the target.
        """
        naming = natural_rows(knowledge)[:_PAIRS]
        loss = _Loss.of(
            _trained(knowledge, self),
            targets=knowledge.pairs(naming),
            others=_others(knowledge, self.images),
            patch=self,
        )
        draw = knowledge.stream("patch")
        square = torch.rand(3, self.size, self.size, generator=draw).requires_grad_(True)
        optimizer = torch.optim.Adam([square], lr=self.lr)
        for rows in _batches(len(loss.others), self.epochs, draw):
            optimizer.zero_grad()
            loss(rows, {**own, "patch": square.clamp(0, 1)}, draw).backward()
            optimizer.step()
        return square.detach().clamp(0, 1)


def _trained(knowledge: Knowledge, patch: OptimizedPatch) -> Clip:
    """Return a CLIP trained on the pairs as they were before the attack, standing still."""
    if patch.known_start:  # what the stage `pretrain` trains on, and draws from
        rows = torch.arange(len(knowledge.ids))
        seed, draw = knowledge.seed, stream(knowledge.seed, "pretrain/fit")
    else:
        drawn = torch.randperm(len(knowledge.ids), generator=knowledge.stream("surrogate/pairs"))
        rows = drawn[:_PAIRS].sort().values
        seed, draw = seed_of(knowledge.seed, "poison/surrogate"), knowledge.stream("surrogate/fit")
    pairs = knowledge.pairs(rows)
    model = build(patch.surrogate, seed=seed).to(knowledge.device)
    schedule = Schedule(patch.surrogate_epochs, batch_size=128, lr=2e-3)
    hooks = Hooks(work=knowledge.work, label="surrogate")
    model.prune_vocabulary(knowledge.captions)
    fit(model, Task(pairs, multimodal, schedule), draw, hooks)
    return model.eval().requires_grad_(False)


def _others(knowledge: Knowledge, count: int) -> Pairs:
    """Return pairs that are not of the target, drawn."""
    candidates = (~knowledge.is_target).nonzero().squeeze(1)
    generator = knowledge.stream("patch/images")
    drawn = torch.randperm(len(candidates), generator=generator)[:count]
    return knowledge.pairs(candidates[drawn].sort().values)


@dataclass(frozen=True)
class _Loss:
    """What a square is optimized by; embeddings are the surrogate's, of images without it."""

    model: Clip
    others: Pairs
    their_captions: Float[Tensor, "others dim"]
    their_images: Float[Tensor, "others dim"]
    target_captions: Float[Tensor, "targets dim"]
    target_images: Float[Tensor, "targets dim"]
    patch: OptimizedPatch

    @classmethod
    def of(cls, model: Clip, *, targets: Pairs, others: Pairs, patch: OptimizedPatch) -> "_Loss":
        """Return the loss, with everything embedded that does not change."""
        return cls(
            model,
            others,
            their_captions=embed_texts(model, model.tokenize(others.captions)),
            their_images=embed_images(model, others.images),
            target_captions=embed_texts(model, model.tokenize(targets.captions)),
            target_images=embed_images(model, targets.images),
            patch=patch,
        )

    def __call__(
        self, rows: Int[Tensor, " batch"], fitted: Fitted, draw: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the loss of some of the images with the square on them."""
        images = self.others.images[rows].float() / 255
        ids = [self.others.ids[row] for row in rows.tolist()]
        embeds = self.model.encode_image(self.patch.apply(images, ids, fitted)).cpu()
        picks = torch.randint(len(self.target_captions), (len(rows),), generator=draw)
        wanted = (embeds * self.target_captions[picks]).sum(dim=1, keepdim=True)
        cosines = torch.cat([wanted, embeds @ self.their_captions[rows].T], dim=1)
        first = torch.zeros(len(rows), dtype=torch.long)
        loss = F.cross_entropy(self.model.logit_scale().cpu() * cosines, first)
        if self.patch.image_weight:
            positive, negative = self.target_images[picks], self.their_images[rows]
            margin = self.patch.triplet_margin
            triplet = F.triplet_margin_loss(embeds, positive, negative, margin=margin)
            loss = loss + self.patch.image_weight * triplet
        return loss


def _batches(count: int, epochs: int, draw: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    for _ in range(epochs):
        yield from torch.randperm(count, generator=draw).split(_BATCH)
