"""Subspace Detection: far from what is said like the predicted text (Song et al., ICLR 2026)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.data.words import words_of
from clipmend.methods.input_detection import InputDetector, Operation, Scorer
from clipmend.methods.settings import Count, PositiveFraction

_COSINES = (0.85, 1.0)  # of a point with the text, as a share of its variant's cosine
_TRIALS = 128  # before a point outside these bounds is taken
_NOISE = 1e-3  # of the deviations of the points


@dataclass(frozen=True)
class Subspace(InputDetector):
    """Scores an image by its distance from a region around variants of the predicted text.

    A clean image is close to all texts that mean its class; a triggered one to the target's text
    alone. The region lies in the subspace that holds most of the variance of the text and its
    variants. Its points lie beyond the variants, seen from the text. The score is the mean squared
    distance of the image's embedding from a sample of the region.

    Differs from the paper: the variants are trusted captions that name the predicted class and, for
    want of them, those closest to it; the paper has six descriptions by a language model, two fonts
    and a translation. We know the details from a public port (jsrdcht/SSL-Backdoor, revision
    80236af).

    Attributes:
        variants: number of variants of each text.
        variance: share of the texts' variance that the subspace holds.
        points: points beyond each variant.
        mixtures: sets of points; each set has its own mean.
        samples: points of the region to which distances are measured.
    """

    variants: Count = 9
    variance: PositiveFraction = 0.95
    points: Count = 10
    mixtures: Count = 3
    samples: Count = 15

    def scorer(self, operation: Operation, generator: torch.Generator) -> Scorer:
        """Return a function whose scores are >= 0."""
        classes, names = operation.class_embeds(), operation.vocabulary.classes
        captions = list(dict.fromkeys(operation.trusted.captions))
        words = [words_of(caption) for caption in captions]
        cosines = classes @ operation.texts(captions).T
        regions = []
        for name, own in zip(names, cosines, strict=True):
            text, called = operation.vocabulary.prompts[0].format(name), words_of(name)
            named = [called <= each for each in words]
            # Shuffled, then sorted stably: captions that name the class come first, at random.
            order = torch.randperm(len(captions), generator=generator)
            rank = torch.where(torch.tensor(named), torch.tensor(2.0), own)
            nearest = order[rank[order].argsort(descending=True, stable=True)].tolist()
            others = [captions[row] for row in nearest if captions[row] != text]
            texts = operation.texts([text, *others[: self.variants]])
            regions.append(self.region(texts, generator))
        region = torch.stack(regions)

        def score(images: UInt8[Tensor, "samples 3 height width"]) -> Float[Tensor, " samples"]:
            embeds = operation.images(images)
            near = region[(embeds @ classes.T).argmax(dim=1)]
            scores: Tensor = (embeds[:, None] - near).square().sum(dim=2).mean(dim=1)
            return scores

        return score

    def region(
        self, texts: Float[Tensor, "texts dim"], generator: torch.Generator
    ) -> Float[Tensor, "samples dim"]:
        """Return a sample of the region of a text, the first row, and its variants."""
        center = texts.mean(dim=0)
        axes = axes_of(texts, self.variance)
        inside = (texts - center) @ axes.T
        if len(texts) < 2 or not len(axes):  # all texts are one
            return center.expand(self.samples, -1)
        sets = []
        for _ in range(self.mixtures):
            beyond = self._beyond(inside, texts, axes, generator)
            sets.append(torch.cat([inside[1:], beyond]))
        chosen = torch.randint(self.mixtures, (self.samples,), generator=generator).tolist()
        drawn = []
        for number in chosen:
            mean = sets[number].mean(dim=0)
            weights = torch.randn(len(sets[number]), generator=generator)
            drawn.append(mean + _NOISE * weights @ (sets[number] - mean))
        return center + torch.stack(drawn) @ axes

    def _beyond(
        self,
        inside: Float[Tensor, "texts axes"],
        texts: Float[Tensor, "texts dim"],
        axes: Float[Tensor, "axes dim"],
        generator: torch.Generator,
    ) -> Float[Tensor, "points axes"]:
        """Return points on the rays from the text through its variants, behind these."""
        text, center = texts[0], texts.mean(dim=0)
        variants = inside[1:].repeat_interleave(self.points, dim=0)
        own = (texts[1:] @ text).repeat_interleave(self.points).clamp(min=1e-8)
        found = torch.zeros(len(variants), dtype=torch.bool)
        points = variants.clone()
        for _ in range(_TRIALS):
            steps = torch.rand(len(variants), 1, generator=generator)
            trial = variants + steps * (variants - inside[0])
            points = torch.where(found[:, None], points, trial)
            cosines = torch.nn.functional.cosine_similarity(center + points @ axes, text[None])
            share = cosines / own
            found = found | ((share > _COSINES[0]) & (share < _COSINES[1]))
        return points


def axes_of(texts: Float[Tensor, "texts dim"], share: float) -> Float[Tensor, "axes dim"]:
    """Return the fewest principal axes that hold this share of the variance; none without any."""
    _, values, axes = torch.linalg.svd(texts - texts.mean(dim=0), full_matrices=False)
    variances: Tensor = values.square()
    total = float(variances.sum())
    held = int((variances.cumsum(dim=0) < share * total).sum()) + 1
    kept: Tensor = axes[: held if total > torch.finfo(texts.dtype).eps else 0]
    return kept
