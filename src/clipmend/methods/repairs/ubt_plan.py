"""The plan of UBT's repair: the choice of a few suspects, the task that unlearns them, the finding.

The finding says which pairs the repair chose, why, and the effect on them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.data.words import words_of
from clipmend.methods.interfaces import Finding
from clipmend.metrics.otsu import outstanding
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Task

_TEXTS = 10  # the most frequent unlearned texts that a finding names
_DEFINITIONS = {
    "word": "The word that is most over-represented in the most suspect captions.",
    "word_share": "Share of the most suspect captions that have the word.",
    "word_base": "Share of all captions that have the word.",
    "association": "Mean cosine of the chosen images with the direction of the text that is "
    "unlearned; -1 to 1.",
}


@dataclass(frozen=True)
class Subset:
    """A few pairs, and the word that is most over-represented in their captions.

    Attributes:
        rows: rows of the pairs, the most suspect first; empty if nothing will be unlearned.
        word: the over-represented word.
        share: share of the most suspect captions that have the word.
        base: share of all captions that have the word.
        is_single: whether one pair alone was chosen, which is then left out.
    """

    rows: Int[Tensor, " chosen"]
    word: str
    share: float
    base: float
    is_single: bool = False

    @property
    def excess(self) -> float:
        """The share minus the base, in [-1, 1]."""
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

    A backdoor associates many images with one word, and nearly all of the most suspect captions
    have this word. Without a backdoor, the most suspect pairs are hard or mislabeled ones, whose
    captions have little in common.

    Args:
        suspects: rows of the pairs that the detector calls suspects.
        most: the largest number of pairs. Fewer are taken where fewer suspects stand out by their
            score (Otsu's threshold).
        least_excess: the least excess at which a word counts as a finding.
    """
    ranked = suspects[score[suspects].argsort(descending=True, stable=True)]
    subset = subset_of(ranked[: min(most, outstanding(score[suspects]))], captions)
    if subset.excess < least_excess:
        return replace(subset, rows=subset.rows[:0])
    having = [row for row in subset.rows.tolist() if subset.word in words_of(captions[row])]
    return replace(subset, rows=torch.tensor(having).long())


def subset_of(rows: Int[Tensor, " chosen"], captions: Sequence[str]) -> Subset:
    """Return these rows with the word that is most over-represented in their captions."""
    words = [words_of(caption) for caption in captions]
    everywhere = Counter(word for caption in words for word in caption)
    among = Counter(word for row in rows.tolist() for word in words[row])
    if not among:
        return Subset(rows, "", share=0.0, base=0.0)

    def excess(word: str) -> tuple[float, str]:
        # The word breaks ties: the order of a set of words differs from process to process.
        return among[word] / len(rows) - everywhere[word] / len(words), word

    word = max(among, key=excess)
    return Subset(rows, word, among[word] / len(rows), everywhere[word] / len(words))


@dataclass(frozen=True)
class Plan:
    """The pairs to unlearn and the task that unlearns them.

    Attributes:
        train: the training pairs.
        scores: the detector's scores of these pairs.
        subset: the chosen pairs, and the word that they have in common.
        texts: the part of each chosen caption that is unlearned.
        directions: the direction of each text in the victim's embedding space, L2-normalized.
        task: None where nothing is unlearned, and the model stays as it is.
    """

    train: Pairs
    scores: Scores
    subset: Subset
    texts: tuple[str, ...]
    directions: Float[Tensor, "chosen dim"]
    task: Task | None

    def associations(self, model: Clip) -> Float[Tensor, " chosen"]:
        """Return the cosine of each chosen image with the direction of its text."""
        if not len(self.subset.rows):
            return torch.zeros(0)
        images = embed_images(model, self.train.images[self.subset.rows])
        return (images * self.directions).sum(dim=1)

    def finding(
        self, before: Float[Tensor, " chosen"], after: Float[Tensor, " chosen"] | None
    ) -> Finding:
        """Return the finding in words and numbers, and the chosen pairs.

        Args:
            before: the associations under the victim.
            after: the associations under the repaired model; None before the repair.
        """
        subset, rows = self.subset, self.subset.rows
        summary = {
            "found": self.task is not None,
            "says": self._sentence(is_done=after is not None),
            "word": subset.word,
            "word_share": round(subset.share, 6),
            "word_base": round(subset.base, 6),
            "n_pairs": len(self.train),
            "n_suspects": len(self.scores.suspects),
            "n_chosen": len(rows),
            "texts": dict(Counter(self.texts).most_common(_TEXTS)),
            "association_before": mean_of(before),
            "association_after": None if after is None else mean_of(after),
            "definitions": _DEFINITIONS,
        }
        if after is None:
            return Finding(summary, None)
        chosen = self.train.take(rows)
        return Finding(
            summary, chosen_table(chosen, self.texts, self.scores.score[rows], before, after)
        )

    def _sentence(self, *, is_done: bool) -> str:
        subset = self.subset
        shares = f"{100 * subset.share:.0f} % of the most suspect captions"
        against = f"{100 * subset.base:.0f} % of all"
        if self.task is not None:
            done = "unlearned" if is_done else "to unlearn"
            return f"{subset.word!r} is in {shares}, against {against}; {len(subset.rows)} {done}."
        unchanged = " The model is unchanged." if is_done else ""
        if subset.is_single:
            return f"Nothing to unlearn: one pair alone was chosen, too few.{unchanged}"
        if not subset.word:
            return f"Nothing to unlearn: no pair was chosen.{unchanged}"
        return (
            f"Nothing suspicious was found: {shares} have {subset.word!r} in common, against "
            f"{against}.{unchanged}"
        )


def chosen_table(
    chosen: Pairs,
    texts: Sequence[str],
    score: Float[Tensor, " chosen"],
    before: Float[Tensor, " chosen"],
    after: Float[Tensor, " chosen"],
) -> pa.Table:
    """Return the content of ``chosen.parquet``.

    Args:
        texts: the text of each pair that the repair is about.
        before: the association of each pair under the victim.
        after: that under the repaired model.
    """
    columns = {
        "id": pa.array(chosen.ids, pa.string()),
        "caption": pa.array(chosen.captions, pa.string()),
        "text": pa.array(texts, pa.string()),
        "score": pa.array(score.numpy()),
        "association_before": pa.array(before.numpy()),
        "association_after": pa.array(after.numpy()),
    }
    return pa.table(columns)


def mean_of(values: Float[Tensor, " chosen"]) -> float | None:
    """Return the mean to six digits; None of no values."""
    return round(float(values.mean()), 6) if len(values) else None
