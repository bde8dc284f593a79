"""Adversarial examples of a dual encoder: small changes of pixels that change what it sees."""

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
"""What an attack makes large: one value an image, differentiable in its pixels."""


@dataclass(frozen=True)
class Budget:
    """How far an adversarial example may go from its image, and in how many steps.

    Attributes:
        epsilon: the largest change of any pixel, of images in [0, 1].
        steps: of projected gradient ascent.
    """

    epsilon: float
    steps: int

    @property
    def step_size(self) -> float:
        """The change of a pixel in one step: 2.5 times what would just reach the bound."""
        return 2.5 * self.epsilon / self.steps


def pgd(
    images: Float[Tensor, "batch 3 height width"],
    aim: Aim,
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Return images in [0, 1] within ``budget.epsilon`` of these at which ``aim`` is larger.

    Projected gradient ascent by the gradient's sign (Madry et al. 2018, arXiv:1706.06083, eq. 2).

    Args:
        images: in [0, 1].
        generator: draws the start within the bound; without it the images are the start.
    """
    low, high = (images - budget.epsilon).clamp(min=0), (images + budget.epsilon).clamp(max=1)
    found = images.clone()
    if generator is not None:
        noise = 2 * torch.rand(images.shape, generator=generator).to(images) - 1
        found = (found + budget.epsilon * noise).clamp(low, high)
    for _ in range(budget.steps):
        found.requires_grad_(True)
        (slope,) = torch.autograd.grad(aim(found).sum(), found)
        found = (found.detach() + budget.step_size * slope.sign()).clamp(low, high)
    return found.detach()


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
    """Return each image's InfoNCE with its own caption among the batch's; it needs no labels.

    Differs from attacks on classifiers: row i of ``text_embeds`` stands for a class.
    """
    own = torch.arange(len(text_embeds), device=model.device)
    texts = text_embeds.detach().to(model.device)

    def aim(images: Tensor) -> Tensor:
        logits = model.logit_scale() * model.encode_image(images) @ texts.T
        return F.cross_entropy(logits, own, reduction="none")

    return aim


def displacement(model: Clip, image_embeds: Float[Tensor, "batch dim"]) -> Aim:
    """Return the squared distance from the images' own embeddings; it needs no texts either.

    As FARE does (Schlarmann et al. 2024, arXiv:2402.12336). It is flat at the images themselves:
    let ``pgd`` draw its start.
    """
    at = image_embeds.detach().to(model.device)

    def aim(images: Tensor) -> Tensor:
        return (model.encode_image(images) - at).square().sum(dim=1)

    return aim


def adversarial_examples(
    model: Clip,
    images: Float[Tensor, "batch 3 height width"],
    texts: Float[Tensor, "batch dim"],
    aim: Literal["mismatch", "displacement"],
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Return adversarial examples of a model that is in training, found without labels.

    Args:
        texts: the images' captions, which ``displacement`` does not look at.
        generator: draws the start within the bound; without it the images are the start, from
            which ``displacement`` has no way to go.
    """
    with frozen(model):
        if aim == "mismatch":
            return pgd(images, mismatch(model, texts), budget, generator)
        with torch.no_grad():
            at = model.encode_image(images)
        return pgd(images, displacement(model, at), budget, generator)


@contextmanager
def frozen(model: Clip) -> Iterator[None]:
    """Hold a model still while it is attacked: evaluation mode, no gradients of parameters.

    Batch norm would else learn the attack's intermediate images. What each module and parameter
    was before, it is afterwards.
    """
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
