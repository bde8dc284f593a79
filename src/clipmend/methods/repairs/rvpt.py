"""RVPT (Repulsive Visual Prompt Tuning): learned tokens in a frozen victim (arXiv:2412.20392)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.settings import Count, Natural, NonNegative, Positive, Several
from clipmend.model.clip import Clip, seeded
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.visual_prompts import VISUAL_PROMPTS, class_tokens
from clipmend.model.zero_shot import class_embeds


@dataclass(frozen=True)
class RVPT(FineTuning):
    """Minimizes CE + ``weight`` FR over labeled trusted images, in visual prompts alone.

    CE is the cross-entropy of the zero-shot classifier. FR, which repels features, is the cosine of
    the class tokens of the model and of the victim, a mean over the blocks with prompts. All
    weights of the victim are frozen. The image tower must be a vision transformer.

    Only clipmend can load the repaired model, because plain open_clip has no visual prompts.

    Differs from the paper: AdamW with a warm-up takes the place of SGD, since one loop trains all
    methods. The prompts of the corpus take the place of "a photo of a ...".

    Attributes:
        weight_decay: AdamW's weight decay, of the prompts.
        tokens: the number of visual prompts in each block.
        first_layer: the first block with prompts, counted from 0.
        images_per_class: labeled images of each class, sampled; fewer where there are fewer.
        weight: weight of FR.
    """

    epochs: Count = 50
    batch_size: Several = 32
    lr: Positive = 1e-2
    weight_decay: NonNegative = 0.0
    tokens: Count = 50
    first_layer: Natural = 3
    images_per_class: Count = 16
    weight: NonNegative = 2.0

    @property
    def needs(self) -> tuple[str, ...]:
        """What a defender must have: trusted pairs with their labels."""
        return ("trusted", "labels")

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Add prompts to the model, then yield the task.

        Raises:
            ModelError: the image tower cannot have them.
        """
        model, labeled = assets.model, assets.labeled()
        victim, classes = model.frozen_copy(), class_embeds(model, assets.vocabulary())
        with seeded(int(torch.randint(2**31, (), generator=generator))):
            model.add_visual_prompts(tokens=self.tokens, first_layer=self.first_layer)
        few = labeled.take(few_of_each(labeled.label, self.images_per_class, generator))
        names = [name for name, _ in model.net.named_parameters() if name.endswith(VISUAL_PROMPTS)]
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            self.warmup,
            self.weight_decay,
            trainable=tuple(names),
            frozen_statistics=True,
        )
        loss = RepulsiveLoss(victim, few, classes, self.first_layer, self.weight)
        yield Task(few, loss, schedule)


@dataclass(frozen=True, eq=False)
class RepulsiveLoss:
    """The loss of ``RVPT``.

    Attributes:
        victim: the frozen victim.
        pairs: the labeled pairs that are fitted.
        classes: the zero-shot classifier of the victim, whose text tower does not change.
        first_layer: the first block whose class token is repelled.
        weight: weight of the repulsion.
    """

    victim: Clip
    pairs: Pairs
    classes: Float[Tensor, "classes dim"]
    first_layer: int
    weight: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        with class_tokens(model.net) as own:
            embeds = model.encode_image(batch.images)
        with torch.no_grad(), class_tokens(self.victim.net) as others:
            self.victim.encode_image(batch.images)
        logits = model.logit_scale() * embeds @ self.classes.to(embeds).T
        right = self.pairs.label[batch.rows].to(logits.device)
        repelled = likeness(own[self.first_layer :], others[self.first_layer :])
        return F.cross_entropy(logits, right) + self.weight * repelled


def likeness(
    own: list[Float[Tensor, "batch width"]], others: list[Float[Tensor, "batch width"]]
) -> Float[Tensor, ""]:
    """Return the mean cosine of two lists of class tokens, in [-1, 1]."""
    return F.cosine_similarity(torch.stack(own), torch.stack(others), dim=-1).mean()


def few_of_each(
    label: Int[Tensor, " samples"], count: int, generator: torch.Generator
) -> Int[Tensor, " chosen"]:
    """Return the rows, ascending, of at most ``count`` samples of each class, sampled."""
    order = torch.randperm(len(label), generator=generator)
    chosen = [order[label[order] == one][:count] for one in label.unique()]
    return torch.cat(chosen).sort().values
