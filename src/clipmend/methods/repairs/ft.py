"""FT: plain fine-tuning on trusted pairs with the loss of CLIP."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.repairs.image_views import ImageViews
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class FT(FineTuning):
    """Minimizes MMCL (the multimodal contrastive loss) over the trusted pairs.

    Attributes:
        views: the image views that the model sees: ``none`` for the images themselves,
            ``noise_erase`` for PAR's (Perturb and Recover), ``autoaugment`` for CleanCLIP's.
        policy: AutoAugment's policy.
    """

    views: Literal["noise_erase", "autoaugment", "none"] = "none"
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def loss(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return MMCL of one view of each image and its caption."""
        views = ImageViews(self.views, self.policy, model)(batch.images, generator)
        images = model.encode_image(views)
        return mmcl_loss(images, model.encode_text(batch.tokens), model.logit_scale())
