"""CASCADE: a mixture of similarities, then a conformal test of captions (arXiv:2608.04052)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from sklearn.mixture import GaussianMixture
from torch import Tensor

from clipmend.errors import MetricError
from clipmend.methods.detectors.ubt import UBTDetector
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Fraction, Natural, PositiveFraction
from clipmend.model.clip import embed_texts
from clipmend.model.fit import Hooks


@dataclass(frozen=True)
class Cascade:
    """Sorts pairs by similarity into three groups, and compares captions with the worst group.

    1. Two Gaussians are fitted to the similarities of image and caption. A pair is a reference if
       it belongs to the lower Gaussian with probability ``certain``. It is benign if it belongs to
       the upper one with this probability, and ambiguous otherwise.
    2. A caption conforms to the references by its mean cosine with their captions. Its p-value is
       the share of references that conform no better.

    References rank above ambiguous pairs, and these above benign ones. Within a group, the
    captions that conform best rank first.

    Differs from the paper: only its abstract and a reading note were available. They do not state
    the bounds of the groups, the similarity in text space, or the level of the test. There a CLIP
    that was not poisoned gives the similarity of image and caption. Here the victim gives it from
    zoomed and mirrored views, as in ``ubt`` (Unlearning Backdoor Threats).

    Attributes:
        views: zoomed and mirrored views of each image; 0: the image itself.
        certain: the least probability of a reference or a benign pair.
        level: an ambiguous pair is a suspect if its p-value exceeds this share. Of poisoned
            captions, at most this share is missed, if the references are poison.
    """

    views: Natural = 4
    certain: PositiveFraction = 0.9
    level: Fraction = 0.05

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, in [0, 3], the p-values and the suspects.

        Raises:
            MetricError: there is only one pair.
        """
        train = assets.train()
        if len(train) < 2:
            raise MetricError(f"{hooks.label}: cascade compares pairs, and there is only one.")
        similarity = UBTDetector(views=self.views).prescores(assets, generator)
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        below = lower_probability(similarity, seed=seed)
        texts = embed_texts(assets.model, assets.model.tokenize(train.captions))
        reference, benign = below >= self.certain, below <= 1 - self.certain
        conformity = mean_cosines(texts, reference)
        p_value = p_values(conformity, reference)
        is_ambiguous = ~reference & ~benign
        score = 2.0 * reference + 1.0 * is_ambiguous + (1 + conformity) / 2
        suspect = reference | (is_ambiguous & (p_value > self.level))
        return PairScores(score, {"p_value": p_value, "suspect": suspect})


def lower_probability(
    similarity: Float[Tensor, " samples"], *, seed: int
) -> Float[Tensor, " samples"]:
    """Return the probability that a pair belongs to the lower of two Gaussians, in [0, 1]."""
    values = similarity.double().numpy()[:, None]
    mixture = GaussianMixture(n_components=2, random_state=seed).fit(values)
    lower = int(mixture.means_[:, 0].argmin())
    return torch.from_numpy(mixture.predict_proba(values)[:, lower]).float()


def mean_cosines(
    texts: Float[Tensor, "samples dim"], reference: Bool[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    """Return each caption's mean cosine with the references other than itself, in [-1, 1].

    It is 0 for a caption without another reference.
    """
    total = texts @ texts[reference].sum(dim=0)
    # A reference's cosine with itself is 1; it would conform better than any other caption.
    own = reference * texts.square().sum(dim=1)
    others = int(reference.sum()) - reference.long()
    return ((total - own) / others.clamp(min=1)).clamp(-1, 1)


def p_values(
    conformity: Float[Tensor, " samples"], reference: Bool[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    """Return each caption's conformal p-value among the references, in (0, 1]."""
    calibration = conformity[reference].sort().values
    no_better = torch.searchsorted(calibration, conformity.contiguous(), right=True)
    return (1 + no_better) / (1 + len(calibration))
