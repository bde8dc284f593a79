"""Adversarial FT: fine-tuning on trusted pairs whose images were made to miss their captions.

Adversarial training is Madry et al. 2018, arXiv:1706.06083. Its form for CLIP, by CLIP's own
contrast, is TeCoA (text-guided contrastive adversarial training), arXiv:2212.07016.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.methods.settings import Count, Fraction, Positive
from clipmend.metrics.adversarial import Budget, adversarial_examples
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class AdversarialFT(FineTuning):
    """Minimizes MMCL over the trusted pairs, with each image attacked within ``epsilon``.

    The loss is ``(1 - clean)`` MMCL of attacked images + ``clean`` MMCL of untouched images. The
    attack maximizes the loss of an image among the captions of its batch, on the current model.

    Differs from the paper: TeCoA trains the image tower against the prompts of labeled classes;
    here both towers learn from captions, without labels.

    Attributes:
        epsilon: the largest change of a pixel, in 255ths.
        steps: steps of projected gradient ascent for each batch.
        clean: weight of the untouched images' loss, as a share of the total.
    """

    epsilon: Positive = 2
    steps: Count = 3
    clean: Fraction = 0.5

    def loss(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch."""
        budget = Budget(self.epsilon / 255, self.steps)
        images = batch.images.to(model.device).float() / 255
        texts, scale = model.encode_text(batch.tokens), model.logit_scale()
        attacked = adversarial_examples(model, images, texts, "mismatch", budget, generator)
        if self.clean == 0:
            return mmcl_loss(model.encode_image(attacked), texts, scale)
        # One forward pass, so that both kinds of image share their batch-norm statistics.
        both = model.encode_image(torch.cat([images, attacked]))
        untouched_embeds, attacked_embeds = both.chunk(2)
        untouched = mmcl_loss(untouched_embeds, texts, scale)
        hard = mmcl_loss(attacked_embeds, texts, scale)
        return self.clean * untouched + (1 - self.clean) * hard
