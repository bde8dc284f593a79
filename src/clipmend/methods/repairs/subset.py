"""Which few suspects are unlearned, and whether there is anything to unlearn at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.words import words_of

_BINS = 256


@dataclass(frozen=True)
class Subset:
    """The few suspects, and the word that they have in common.

    Attributes:
        rows: of the pairs, the most suspect first; none where nothing is to be unlearned.
        word: the word that the most suspect pairs share beyond its use elsewhere.
        share: share of the most suspect pairs whose caption has the word.
        base: share of all pairs whose caption has it.
    """

    rows: Int[Tensor, " chosen"]
    word: str
    share: float
    base: float

    @property
    def excess(self) -> float:
        """How much more often the most suspect pairs have the word than pairs have, in [-1, 1]."""
        return self.share - self.base


def few_shot(
    score: Float[Tensor, " samples"],
    suspects: Int[Tensor, " suspects"],
    captions: Sequence[str],
    *,
    most: int,
    least_excess: float,
) -> Subset:
    """Return the few suspects to unlearn; none if they have no word in common.

    A backdoor ties many images to one word: where there is one, nearly all of the most suspect
    captions say it. Hard and mislabeled pairs, which are what is most suspect where there is
    none, say this and that.

    Args:
        suspects: rows of the pairs that the detector took for suspects.
        most: how many pairs are looked at, and so unlearned, at most. There are fewer where
            fewer suspects stand out by their score (Otsu's threshold).
        least_excess: the least excess of the word at which it is a finding.
    """
    ranked = suspects[score[suspects].argsort(descending=True, stable=True)]
    found = finding(ranked[: min(most, outstanding(score[suspects]))], captions)
    if found.excess < least_excess:
        return replace(found, rows=found.rows[:0])
    having = [row for row in found.rows.tolist() if found.word in words_of(captions[row])]
    return replace(found, rows=torch.tensor(having))


def finding(rows: Int[Tensor, " chosen"], captions: Sequence[str]) -> Subset:
    """Return these rows with the word that they have in common beyond its use elsewhere."""
    said = [words_of(caption) for caption in captions]
    everywhere = Counter(word for words in said for word in words)
    among = Counter(word for row in rows.tolist() for word in said[row])
    if not among:
        return Subset(rows, "", share=0.0, base=0.0)

    def excess(word: str) -> tuple[float, str]:
        return among[word] / len(rows) - everywhere[word] / len(said), word

    word = max(among, key=excess)
    return Subset(rows, word, among[word] / len(rows), everywhere[word] / len(said))


def outstanding(score: Float[Tensor, " suspects"]) -> int:
    """Return how many scores lie above the threshold that splits them best (Otsu 1979).

    It maximizes the variance between the two sides; where all are equal none stands out,
    and all are counted.
    """
    low, high = float(score.min()), float(score.max())
    if low == high:
        return len(score)
    edges = torch.linspace(low, high, _BINS + 1)[1:-1]
    above = score[None] > edges[:, None]
    share = above.float().mean(dim=1)
    total = float(score.mean())
    mean = (above * score).sum(dim=1) / above.sum(dim=1).clamp(min=1)
    between = share * (mean - total).square() / (1 - share).clamp(min=1e-6)
    return int(above[between.argmax()].sum())
