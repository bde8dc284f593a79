"""SigLIP: every image and caption of a batch judged as a pair or not (Zhai et al. 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task

_HEAD = {"init_logit_scale": log(10), "init_logit_bias": -10.0}  # arXiv:2303.15343, section 3.1


def sigmoid_loss(
    image_embeds: Float[Tensor, "batch dim"],
    text_embeds: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the sigmoid loss of SigLIP (Zhai et al. 2023, arXiv:2303.15343, eq. 1).

    Summed over all pairs of the batch, matching or not, and divided by its size.
    """
    logits = logit_scale * image_embeds @ text_embeds.T + logit_bias  # (image, text)
    is_pair = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(is_pair * logits).sum() / len(logits)


@dataclass(frozen=True)
class SigLIP:
    """Minimizes the sigmoid loss over all training pairs, with a learnt temperature and bias."""

    needs: ClassVar[tuple[str, ...]] = ()

    epochs: Count = 12
    batch_size: Count = 128
    lr: Positive = 2e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    early_epoch: Count = 1

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:  # noqa: ARG002
        """Return the task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        return Task(train, sigmoid, schedule)

    def head(self) -> Mapping[str, float]:
        """Return the paper's first temperature and bias."""
        return _HEAD

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()


def sigmoid(
    model: Clip,
    batch: Batch,
    generator: torch.Generator,  # noqa: ARG001
) -> Float[Tensor, ""]:
    """Return the sigmoid loss of the batch's images and captions; it draws nothing."""
    image_embeds = model.encode_image(batch.images)
    text_embeds = model.encode_text(batch.tokens)
    return sigmoid_loss(image_embeds, text_embeds, model.logit_scale(), model.logit_bias())
