"""Fine-Pruning: silence what clean images leave dormant, then fine-tune (arXiv:1805.12185)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipmend.data.streaming import Images
from clipmend.errors import ModelError
from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Schedule, Task


@dataclass(frozen=True)
class Units:
    """The units of an image tower that can be silenced.

    Zeroed, they stay silent whatever is fitted, and need no mask: the slope of a ReLU is 0 at 0,
    and each side of a hidden unit gets its gradient through the other.

    Attributes:
        seen: the module whose outputs are their activity, of (batch, units, height, width) or
            (..., units).
        tied: tensors that make a unit silent where they are 0, each with its axis of units.
    """

    seen: nn.Module
    tied: tuple[tuple[Tensor, int], ...]

    def silence(self, rows: Int[Tensor, " units"]) -> None:
        """Set everything that these units speak through to 0, in place."""
        with torch.no_grad():
            for tensor, axis in self.tied:
                tensor.index_fill_(axis, rows.to(tensor.device), 0)


def units_of(model: Clip) -> Units:
    """Return the channels that leave a ResNet's last stage, or a ViT's last hidden units.

    Raises:
        ModelError: the image tower is of another kind.
    """
    visual: Any = model.net.visual
    if hasattr(visual, "layer4"):
        norms = [norm for block in visual.layer4 for norm in _ends(block)]
        said = [tensor for norm in norms for tensor in (norm.weight, norm.bias)]
        return Units(visual.layer4, tuple((tensor, 0) for tensor in said))
    if hasattr(visual, "transformer"):
        mlp = visual.transformer.resblocks[-1].mlp
        return Units(mlp.gelu, ((mlp.c_fc.weight, 0), (mlp.c_fc.bias, 0), (mlp.c_proj.weight, 1)))
    raise ModelError(
        f"fine_pruning cannot prune an image tower of kind {type(visual).__name__}; it knows "
        "open_clip's own ResNets and vision transformers."
    )


def _ends(block: Any) -> list[Any]:
    """Return the norms whose sum a residual block's ReLU lets out."""
    shortcut = [] if block.downsample is None else [block.downsample[-1]]
    return [block.bn3, *shortcut]


def mean_activity(model: Clip, at: nn.Module, images: Images) -> Float[Tensor, " units"]:
    """Return how strongly each unit answers, the mean over images and places, >= 0."""
    total, count = torch.zeros(()), 0

    def see(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total, count
        by_unit = output.movedim(1, -1) if output.ndim == 4 else output
        by_unit = by_unit.detach().abs().flatten(0, -2)
        total, count = total + by_unit.sum(dim=0, dtype=torch.float64).cpu(), count + len(by_unit)

    hook = at.register_forward_hook(see)
    try:
        embed_images(model, images)
    finally:
        hook.remove()
    return (total / count).float()


def dormant(activity: Float[Tensor, " units"], share: float) -> Int[Tensor, " dormant"]:
    """Return the least active share of the units, in their order."""
    order = activity.argsort(stable=True)
    return order[: round(share * len(activity))].sort().values


@dataclass(frozen=True)
class FinePruning:
    """Minimizes MMCL over the trusted pairs, without the units that they leave dormant.

    The curve starts with the pruned model.

    Differs from the paper: the share is a setting. There units go one by one until the accuracy
    on labeled images falls; the trusted pairs have no labels. A ViT has no last convolution: its
    last block's hidden units stand for it.

    Attributes:
        pruned: share of the units that go.
    """

    needs: ClassVar[tuple[str, ...]] = ("trusted",)
    control: ClassVar[bool] = False

    epochs: Count = 25
    batch_size: Count = 128
    lr: Positive = 3e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    pruned: Fraction = 0.8

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:  # noqa: ARG002
        """Prune, and yield the one task."""
        found = units_of(means.model)
        active = mean_activity(means.model, found.seen, means.trusted.images)
        found.silence(dormant(active, self.pruned))
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        yield Task(means.trusted, multimodal, schedule)

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()
