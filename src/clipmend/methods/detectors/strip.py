"""STRIP: a trigger decides the prediction of blends, too (Gao et al. 2019, arXiv:1902.06531)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.methods.input_detection import InputDetector, Operation, Scorer
from clipmend.methods.settings import Count, ProperFraction


@dataclass(frozen=True)
class Strip(InputDetector):
    """Scores an image by how certain the predictions for its blends with other images are.

    A clean image loses its class in a blend; a trigger that survives keeps the prediction at the
    target. The score is minus the mean entropy of the zero-shot predictions for the blends.

    Differs from the paper: the classifier is CLIP's zero-shot classifier, at the temperature that
    the model learned. All images are blended with the same trusted images, which are fewer (the
    paper: 100, sampled for each image). The image has the larger weight in a blend: with equal
    weights, the triggers of this benchmark do not survive.

    Attributes:
        overlays: number of trusted images that each image is blended with; at most all.
        overlay_weight: weight of the trusted image in a blend.
    """

    overlays: Count = 16
    overlay_weight: ProperFraction = 0.3

    def scorer(self, operation: Operation, generator: torch.Generator) -> Scorer:
        """Return a function whose scores are <= 0, in nats."""
        classes, scale = operation.class_embeds(), operation.model.logit_scale().item()
        chosen = torch.randperm(len(operation.trusted), generator=generator)[: self.overlays]
        overlays = operation.trusted.images[chosen].float()

        def score(images: UInt8[Tensor, "samples 3 height width"]) -> Float[Tensor, " samples"]:
            total = torch.zeros(len(images))
            for overlay in overlays:
                blends = torch.lerp(images.float(), overlay, self.overlay_weight)
                embeds = operation.images(blends.round().to(torch.uint8))
                chances = (scale * embeds @ classes.T).log_softmax(dim=1)
                total += (chances.exp() * chances).sum(dim=1)
            return total / len(overlays)

        return score
