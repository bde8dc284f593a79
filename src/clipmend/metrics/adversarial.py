"""Adversarial examples of a dual encoder: small changes of pixels that change its embeddings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.model.clip import Clip

Aim = Callable[[Float[Tensor, "batch 3 height width"]], Float[Tensor, " batch"]]
"""The objective of an attack: one value per image, differentiable in its pixels."""


@dataclass(frozen=True)
class Budget:
    """How far an adversarial example may differ from its image, and in how many steps.

    Attributes:
        epsilon: the largest change of any pixel, for images in [0, 1].
        steps: steps of projected gradient ascent.
    """

    epsilon: float
    steps: int

    @property
    def step_size(self) -> float:
        """The change of a pixel in one step: 2.5 times the step that just reaches the bound."""
        # The published factor: steps can reach the bound and still turn back.
        return 2.5 * self.epsilon / self.steps


def pgd(
    images: Float[Tensor, "batch 3 height width"],
    aim: Aim,
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Return images within ``budget.epsilon`` of the given ones for which ``aim`` is larger.

    Projected gradient ascent (PGD) by the sign of the gradient (Madry et al. 2018,
    arXiv:1706.06083, eq. 2).

    Args:
        images: in [0, 1], as are the returned ones.
        generator: samples a start within the bound; None: the images are the start.
    """
    low, high = (images - budget.epsilon).clamp(min=0), (images + budget.epsilon).clamp(max=1)
    moved = images.clone()
    if generator is not None:
        noise = 2 * torch.rand(images.shape, generator=generator).to(images) - 1
        moved = (moved + budget.epsilon * noise).clamp(low, high)
    for _ in range(budget.steps):
        moved.requires_grad_(True)
        (slope,) = torch.autograd.grad(aim(moved).sum(), moved)
        moved = (moved.detach() + budget.step_size * slope.sign()).clamp(low, high)
    return moved.detach()


def misclassification(
    model: Clip, classes: Float[Tensor, "classes dim"], label: Int[Tensor, " batch"]
) -> Aim:
    """Return the cross-entropy of the zero-shot classifier at CLIP's scale of 100."""
    classes, label = classes.to(model.device), label.to(model.device)

    def aim(images: Tensor) -> Tensor:
        logits = 100 * model.encode_image(images) @ classes.T
        return F.cross_entropy(logits, label, reduction="none")

    return aim


def mismatch(model: Clip, text_embeds: Float[Tensor, "batch dim"]) -> Aim:
    """Return the InfoNCE loss of each image with its own caption; it needs no labels.

    Differs from attacks on classifiers: the captions of the batch take the place of classes.
    """
    own = torch.arange(len(text_embeds), device=model.device)
    texts = text_embeds.detach().to(model.device)

    def aim(images: Tensor) -> Tensor:
        logits = model.logit_scale() * model.encode_image(images) @ texts.T
        return F.cross_entropy(logits, own, reduction="none")

    return aim


def displacement(model: Clip, image_embeds: Float[Tensor, "batch dim"]) -> Aim:
    """Return the squared distance from the images' own embeddings; it needs no texts.

    As FARE does (Schlarmann et al. 2024, arXiv:2402.12336). Its gradient is 0 at the images, so
    ``pgd`` needs a generator for its start.
    """
    clean = image_embeds.detach().to(model.device)

    def aim(images: Tensor) -> Tensor:
        return (model.encode_image(images) - clean).square().sum(dim=1)

    return aim


def adversarial_examples(
    model: Clip,
    images: Float[Tensor, "batch 3 height width"],
    texts: Float[Tensor, "batch dim"],
    aim: Literal["mismatch", "displacement"],
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Return adversarial examples of a model in training, made without labels.

    Args:
        texts: embeddings of the captions; ``displacement`` does not use them.
        generator: samples the start within the bound, which ``displacement`` needs.
    """
    with frozen(model):
        if aim == "mismatch":
            return pgd(images, mismatch(model, texts), budget, generator)
        with torch.no_grad():
            clean = model.encode_image(images)
        return pgd(images, displacement(model, clean), budget, generator)


@contextmanager
def frozen(model: Clip) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and restore it afterwards."""
    # In training mode, batch norm would learn the intermediate images of the attack.
    training = {module: module.training for module in model.modules()}
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
        for parameter in moving:
            parameter.requires_grad_(True)
