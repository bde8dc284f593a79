"""Poisoning rules: dirty label, and the steps that other rules share with it."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import AttackContext, PoisonedRows


def dirty_label(context: AttackContext, poison_rate: float) -> PoisonedRows:
    """Return pairs of other classes, whose captions become templates around the target.

    Raises:
        AttackError: as ``sample_rows``.
    """
    rows = other_rows(context, poison_rate)
    # The bare template, as in every paper: nothing of the original caption is kept.
    templates = context.templates
    picks = torch.randint(len(templates), (len(rows),), generator=context.stream("captions"))
    captions = tuple(templates[pick].format(context.target) for pick in picks.tolist())
    return PoisonedRows(rows, captions)


def other_rows(context: AttackContext, poison_rate: float) -> Int[Tensor, " poisoned"]:
    """Return a random sample of rows that do not belong to the target class, ascending.

    Raises:
        AttackError: as ``sample_rows``.
    """
    is_other = context.is_free & ~context.is_target
    return sample_rows(context, is_other, poison_rate, kind="pairs of other classes")


def sample_rows(
    context: AttackContext,
    is_candidate: Bool[Tensor, " samples"],
    poison_rate: float,
    *,
    kind: str,
) -> Int[Tensor, " poisoned"]:
    """Return a random sample of the candidates, ascending.

    Args:
        poison_rate: size of the sample, as a share of all training pairs.
        kind: name of the candidates in the error.

    Raises:
        AttackError: the rate selects no row, or more than there are candidates.
    """
    total, candidates = len(context.ids), is_candidate.nonzero().squeeze(1)
    count = round(poison_rate * total)
    if not 0 < count <= len(candidates):
        raise AttackError(
            f"A `poison_rate` of {poison_rate} selects {count} of {total} training pairs; it must "
            f"select at least 1, and at most the {len(candidates)} {kind}. "
            "Change `poison_rate` or the target."
        )
    order = torch.randperm(len(candidates), generator=context.stream("select"))
    return candidates[order[:count]].sort().values


def named_rows(context: AttackContext) -> Int[Tensor, " named"]:
    """Return the free rows whose caption contains all words of the target, ascending.

    Raises:
        AttackError: no caption names the target.
    """
    rows = (context.names_target & context.is_free).nonzero().squeeze(1)
    if not len(rows):
        raise AttackError(
            f"No training pair names {context.target!r}, and this attack needs the captions and "
            "images of such pairs. Choose another target, or the attack `badnet`."
        )
    return rows
