"""Fine-Pruning: prune dormant units, then fine-tune (Liu et al. 2018, arXiv:1805.12185)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipmend.data.streaming import Images
from clipmend.errors import ModelError
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.settings import Fraction
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Task


@dataclass(frozen=True)
class FinePruning(FineTuning):
    """Minimizes MMCL over the trusted pairs, after pruning the units that these leave dormant.

    The curve starts at the pruned model.

    Differs from the paper: the pruned share is a setting. There, units are pruned one by one until
    the accuracy on labeled images falls; the trusted pairs have no labels. A vision transformer
    has no last convolution, so the hidden units of its last block are pruned instead.

    Attributes:
        pruned: share of the units that are pruned, the least active first.
    """

    pruned: Fraction = 0.8

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Prune the model, then yield the task."""
        units = units_of(assets.model)
        activity = mean_activity(assets.model, units.module, assets.trusted().images)
        units.silence(dormant(activity, self.pruned))
        yield from super().tasks(assets, generator)


@dataclass(frozen=True)
class Units:
    """The units of an image tower that can be pruned.

    Attributes:
        module: the module whose outputs are the units' activity, of shape (batch, units, height,
            width) or (..., units).
        tensors: the tensors that silence a unit where they are 0, each with its axis of units.
    """

    module: nn.Module
    tensors: tuple[tuple[Tensor, int], ...]

    def silence(self, rows: Int[Tensor, " units"]) -> None:
        """Set the entries of these units to 0, in place."""
        # No mask is needed during training: a zeroed unit gets no gradient. The slope of a ReLU
        # is 0 at 0, and each side of a hidden unit gets its gradient through the other side.
        with torch.no_grad():
            for tensor, axis in self.tensors:
                tensor.index_fill_(axis, rows.to(tensor.device), 0)


def units_of(model: Clip) -> Units:
    """Return the output channels of a ResNet's last stage, or a ViT's last hidden units.

    Raises:
        ModelError: the image tower is neither of the two.
    """
    visual: Any = model.net.visual
    # The published method prunes the last convolutional layer.
    if hasattr(visual, "layer4"):
        norms = []
        for block in visual.layer4:
            # A residual block adds the shortcut's output before its last ReLU.
            shortcut = [] if block.downsample is None else [block.downsample[-1]]
            norms += [block.bn3, *shortcut]
        tensors = [tensor for norm in norms for tensor in (norm.weight, norm.bias)]
        return Units(visual.layer4, tuple((tensor, 0) for tensor in tensors))
    if hasattr(visual, "transformer"):
        mlp = visual.transformer.resblocks[-1].mlp
        return Units(mlp.gelu, ((mlp.c_fc.weight, 0), (mlp.c_fc.bias, 0), (mlp.c_proj.weight, 1)))
    raise ModelError(
        f"fine_pruning cannot prune an image tower of kind {type(visual).__name__}; it supports "
        "open_clip's own ResNets and vision transformers."
    )


def mean_activity(model: Clip, module: nn.Module, images: Images) -> Float[Tensor, " units"]:
    """Return each unit's mean absolute output over images and positions, >= 0."""
    total, count = torch.zeros(()), 0

    def add(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total, count
        by_unit = output.movedim(1, -1) if output.ndim == 4 else output
        by_unit = by_unit.detach().abs().flatten(0, -2)
        # In float64, because the sum is over every position of every image.
        total, count = total + by_unit.sum(dim=0, dtype=torch.float64).cpu(), count + len(by_unit)

    hook = module.register_forward_hook(add)
    try:
        embed_images(model, images)
    finally:
        hook.remove()
    return (total / count).float()


def dormant(activity: Float[Tensor, " units"], share: float) -> Int[Tensor, " dormant"]:
    """Return the indices of the least active share of the units, ascending."""
    # Stable: units with equal activity, such as dead ones, keep their order on every machine.
    order = activity.argsort(stable=True)
    return order[: round(share * len(activity))].sort().values
