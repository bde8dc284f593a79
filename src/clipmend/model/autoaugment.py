"""AutoAugment (arXiv:1805.09501), as torchvision has it, for a batch of images."""

from functools import cache
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from clipmend.model.openclip import light_imports

with light_imports():
    from torchvision.transforms import v2 as transforms

Policy = Literal["imagenet", "cifar10", "svhn"]

Step = tuple[str, float]
"""An operation of AutoAugment and its magnitude."""


class AutoAugment(transforms.AutoAugment):  # type: ignore[misc]
    """torchvision's AutoAugment, which samples per image and applies each step to a group.

    It uses private members of torchvision's class; torchvision is pinned to the patch release.
    """

    def views(
        self, images: UInt8[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch 3 height width"]:
        """Return a view of each image."""
        size = (images.shape[-2], images.shape[-1])
        views = images.clone()
        sampled = [self._sample(size, generator) for _ in images]
        # At 32 pixels nearly all of the time is call overhead: images with the same step share one.
        for order in range(2):  # every policy has two steps
            rows: dict[Step, list[int]] = {}
            for row, steps in enumerate(sampled):
                if (step := steps[order]) is not None:
                    rows.setdefault(step, []).append(row)
            for (operation, magnitude), group in rows.items():
                views[group] = self._apply_image_or_video_transform(
                    views[group], operation, magnitude, self.interpolation, self._fill
                )
        return views

    def _sample(self, size: tuple[int, int], generator: torch.Generator) -> list[Step | None]:
        """Return both steps of a sampled policy, None for a step that is left out."""
        policy = self._policies[int(torch.randint(len(self._policies), (), generator=generator))]
        steps: list[Step | None] = []
        for operation, probability, level in policy:
            chance, sign = torch.rand(2, generator=generator).tolist()
            levels, signed = self._AUGMENTATION_SPACE[operation]
            magnitudes = levels(10, *size)
            magnitude = 0.0 if magnitudes is None else float(magnitudes[level])
            flipped = signed and sign <= 0.5
            step = (operation, -magnitude if flipped else magnitude)
            steps.append(step if chance <= probability else None)
        return steps


@cache
def augment(policy: Policy) -> AutoAugment:
    """Return the sampler of a policy."""
    return AutoAugment(transforms.AutoAugmentPolicy(policy))
