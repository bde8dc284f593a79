"""What an unlearner believes and did: the pairs it chose, why, and what became of their tie."""

from collections import Counter
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.repairs.unlearner import Evidence, Unlearning
from clipmend.model.clip import Clip, embed_images

_TOLD = 10  # of the unlearned texts, the most frequent ones


def associations(model: Clip, train: Pairs, plan: Unlearning) -> Float[Tensor, " chosen"]:
    """Return the cosine of each chosen image with what its unlearned text stands for."""
    if not len(plan.subset.rows):
        return torch.zeros(0)
    images = embed_images(model, train.images[plan.subset.rows])
    return (images * plan.directions).sum(dim=1)


def chosen_table(
    evidence: Evidence,
    plan: Unlearning,
    before: Float[Tensor, " chosen"],
    after: Float[Tensor, " chosen"],
) -> pa.Table:
    """Return the chosen pairs, the most suspect first."""
    chosen = evidence.train.take(plan.subset.rows)
    return pa.table(
        {
            "id": pa.array(chosen.ids, pa.string()),
            "caption": pa.array(chosen.captions, pa.string()),
            "text": pa.array(plan.texts, pa.string()),
            "score": pa.array(evidence.score[plan.subset.rows].numpy()),
            "association_before": pa.array(before.numpy()),
            "association_after": pa.array(after.numpy()),
        }
    )


def finding_of(
    evidence: Evidence,
    plan: Unlearning,
    before: Float[Tensor, " chosen"],
    after: Float[Tensor, " chosen"] | None,
) -> dict[str, Any]:
    """Return in words and numbers what was found and what was done about it.

    Args:
        after: None where the plan was not carried out.
    """
    subset = plan.subset
    texts = Counter(plan.texts).most_common(_TOLD)
    return {
        "found": plan.task is not None,
        "says": _says(plan, is_done=after is not None),
        "word": subset.word,
        "word_share": round(subset.share, 6),
        "word_base": round(subset.base, 6),
        "n_pairs": len(evidence.train),
        "n_suspects": len(evidence.suspects),
        "n_chosen": len(subset.rows),
        "texts": dict(texts),
        "association_before": _mean(before),
        "association_after": None if after is None else _mean(after),
        "definitions": {
            "word": "The word that the most suspect captions have in common beyond its use.",
            "word_share": "Share of the most suspect captions that have the word.",
            "word_base": "Share of all captions that have it.",
            "association": "Mean cosine of the chosen images with what was unlearned of their "
            "captions; -1 to 1.",
        },
    }


def _says(plan: Unlearning, *, is_done: bool) -> str:
    subset = plan.subset
    shares = f"{100 * subset.share:.0f} % of the most suspect captions"
    against = f"{100 * subset.base:.0f} % of all"
    if plan.task is not None:
        done = "unlearned" if is_done else "to unlearn"
        return f"{subset.word!r} is in {shares}, against {against}; {len(subset.rows)} {done}."
    unchanged = " The model is unchanged." if is_done else ""
    if not subset.word:
        return f"Nothing to unlearn: there are no such pairs.{unchanged}"
    return (
        f"Nothing suspicious was found: {shares} have {subset.word!r} in common, against "
        f"{against}.{unchanged}"
    )


def _mean(values: Float[Tensor, " chosen"]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
