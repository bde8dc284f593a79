"""The neurons of an image tower that a trigger moves, and the loss that calms them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from sklearn.cluster import KMeans
from torch import Tensor, nn

from clipmend.errors import ModelError
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch

STAGES = 4  # of an image tower
_SMALLEST = 1e-12  # a divisor, where all activations are 0


def stages_of(model: Clip) -> tuple[nn.Module, ...]:
    """Return the four stages of a ResNet, or the last block of each quarter of a ViT.

    Raises:
        ModelError: the image tower is neither of the two, or a ViT with fewer than four blocks.
    """
    visual: Any = model.net.visual
    if hasattr(visual, "layer4"):
        return tuple(getattr(visual, f"layer{number}") for number in range(1, STAGES + 1))
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", ())
    if len(blocks) < STAGES:
        raise ModelError(
            f"invertune cannot tune an image tower of kind {type(visual).__name__}; it supports "
            "open_clip's own ResNets, and its vision transformers of at least 4 blocks."
        )
    return tuple(blocks[len(blocks) * (part + 1) // STAGES - 1] for part in range(STAGES))


@contextmanager
def recorded(stages: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list to which each stage appends its output, in the order of the calls."""
    outputs: list[Tensor] = []
    hooks = [
        stage.register_forward_hook(lambda _, __, output: outputs.append(output))
        for stage in stages
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class CalmingLoss:
    """Minimizes the change of critical neurons under a trigger + ``weight`` drift of embeddings.

    The change of a stage is the norm of clean minus triggered activations, divided by the norm of
    the clean ones, both over critical neurons. The drift is the mean distance of the clean images'
    embeddings from the victim's.

    Attributes:
        numbers: the stages that are tuned, from 0.
        critical: which neurons of each are critical.
        triggered: the images with the trigger, in [0, 1]; row i belongs to pair i of the task.
        anchors: the victim's embeddings of the clean images.
        weight: weight of the drift.
    """

    numbers: tuple[int, ...]
    critical: tuple[Bool[Tensor, "..."], ...]
    triggered: Float[Tensor, "samples 3 height width"]
    anchors: Float[Tensor, "samples dim"]
    weight: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of a batch of clean pairs."""
        stages = stages_of(model)
        with recorded([stages[number] for number in self.numbers]) as outputs:
            embeds = model.encode_image(batch.images)
            model.encode_image(self.triggered[batch.rows])
        clean, triggered = outputs[: len(self.numbers)], outputs[len(self.numbers) :]
        drift: Tensor = (embeds - self.anchors[batch.rows].to(embeds)).norm(dim=1).mean()
        loss = self.weight * drift
        for mask, before, after in zip(self.critical, clean, triggered, strict=True):
            kept = mask.to(before.device)
            norm = (before * kept).norm().clamp(min=_SMALLEST)
            loss = loss + ((before - after) * kept).norm() / norm
        return loss


@torch.no_grad()
def changes(
    model: Clip,
    images: Shaped[Tensor, "batch 3 height width"],
    triggered: Shaped[Tensor, "batch 3 height width"],
) -> tuple[tuple[Float[Tensor, "..."], float], ...]:
    """Return the absolute change of each neuron's mean, and its relative norm, for each stage.

    The norm is that of the change, divided by that of the clean means.
    """
    model.eval()
    stages = stages_of(model)
    with recorded(stages) as outputs:
        model.encode_image(images)
        model.encode_image(triggered)
    found = []
    for before, after in zip(outputs[:STAGES], outputs[STAGES:], strict=True):
        clean = before.float().mean(dim=0)
        change = clean - after.float().mean(dim=0)
        found.append((change.abs().cpu(), float(change.norm() / clean.norm().clamp(min=_SMALLEST))))
    return tuple(found)


def critical_neurons(change: Float[Tensor, "..."], *, seed: int) -> Bool[Tensor, "..."]:
    """Return which neurons belong to the cluster of larger change, of two by k-means."""
    values = change.double().flatten()[:, None].numpy()
    if len(change.unique()) < 2:
        return torch.ones_like(change, dtype=torch.bool)
    means = KMeans(2, n_init=1, random_state=seed).fit(values)
    larger = int(means.cluster_centers_[:, 0].argmax())
    return torch.from_numpy(means.labels_ == larger).view(change.shape)
