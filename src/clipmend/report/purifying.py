"""Judges of the claims on adversarial examples and PUD (arXiv:2405.17929)."""

from collections.abc import Mapping, Sequence

import pandas as pd

from clipmend.methods.table import base
from clipmend.report.cells import PAIR
from clipmend.report.evidence import (
    Beside,
    Evidence,
    Finding,
    Limits,
    Number,
    beside,
    by_victim,
    judgment,
    planted,
    poisoned_cells,
    rivals,
    told_left_out,
    untested,
)
from clipmend.report.order import UNDEFENDED, is_poisoned
from clipmend.report.robust import ROBUST, at_epsilons
from clipmend.report.table import ATTACK, CLEAN

_PUD = "pud"
_REPAIRS = ("ft", "cleanclip", "adversarial_ft", "par", "fine_pruning")
_TRAINED_WITH = "mmcl"  # what a filter at training time would have been trained by without it
_ALIKE = (
    "adversarial_trigger_cosine",
    "adversarial_trigger_cosine_sideways",
    "adversarial_target_rate",
)


def resembles_trigger(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether adversarial examples are more like triggered images in a poisoned model.

    Undefended victims, poisoned less unpoisoned under the same trigger, objective and seed: all
    metrics must be higher at every epsilon that was measured.
    """
    cells = evidence.cells
    columns = [column for name in _ALIKE for column in at_epsilons(cells, name).values()]
    clean = cells[(cells["method"] == UNDEFENDED) & ~cells["attack"].map(is_poisoned)]
    on = [name for name in PAIR if name != "attack"]
    both = by_victim(
        planted(cells, limits["planted"])[[*PAIR, *columns]].merge(
            clean[[*on, *columns]], on=on, suffixes=("", "_clean")
        )
    )
    numbers = []
    for column in columns:
        change = (both[column] - both[f"{column}_clean"]).dropna()
        if len(change):
            numbers.append(evidence.number(f"{column}, poisoned less unpoisoned", change))
    if not numbers:
        return untested(
            "No backdoor was planted beside an unpoisoned victim of the same objective and seed, "
            "both attacked with adversarial examples."
        )
    said = ", ".join(f"{number.name.partition(',')[0]} {number.plain()}" for number in numbers)
    return Finding(
        judgment(holds=all(number.low > 0 for number in numbers)),
        f"Poisoned less unpoisoned: {said} ({numbers[0].counted('pairs of victims')}).",
        tuple(numbers),
    )


def identifies_poison(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether PUD's scores tell poisoned pairs better than chance does.

    By AUROC, of which chance has ``chance``, and by precision at the budget, of which chance has
    the share of poisoned pairs; the latter where a budget was asked for.
    """
    table = evidence.detectors
    ours = by_victim(table[(table["method"] == _PUD) & table["auroc"].notna()])
    if ours.empty:
        return untested("`pud` scored no poisoned victim.")
    auroc = evidence.number("AUROC", ours["auroc"])
    numbers, holds = [auroc], auroc.low > limits["chance"]
    said = f"AUROC is {auroc.percent()} %, chance {100 * limits['chance']:g}"
    asked = ours[ours["precision_at_budget"].notna()]
    if len(asked):
        share = asked["n_poisoned"] / asked["n_pairs"]
        more = evidence.number(
            "precision at budget less share of poison", asked["precision_at_budget"] - share
        )
        numbers.append(more)
        holds = holds and more.low > 0
        said += f"; precision at budget is {more.points()} points above the share of poison"
    return Finding(judgment(holds=holds), f"{said} ({auroc.counted()}).", tuple(numbers))


def beats_repairs(evidence: Evidence, limits: Limits) -> Finding:
    """Judge PUD against defenses that repair the model from trusted pairs."""
    del limits
    others = rivals(evidence.cells, _PUD)
    repairs = others.loc[[base(name) in _REPAIRS for name in others["method"]]]
    return _beats(evidence, _contest(_ours(evidence.cells), repairs))


def beats_filters(evidence: Evidence, limits: Limits) -> Finding:
    """Judge PUD against defenses that filter the training pairs, in a repair or in training.

    Of all of its victims those in training can have been measured on those of ``mmcl`` alone, and
    so are a contest of their own.
    """
    del limits
    ours, cells = _ours(evidence.cells), poisoned_cells(evidence.cells)
    trained = cells[(cells["method"] == UNDEFENDED) & (cells["needs"] == "pretraining")]
    # The defense is the objective; it stands beside PUD on what was trained without it.
    trained = trained.assign(method=trained["objective"], objective=_TRAINED_WITH)
    others = rivals(evidence.cells, _PUD)
    filters = [
        base(name) not in _REPAIRS and "train" in needs.split("+")
        for name, needs in zip(others["method"], others["needs"].fillna(""), strict=True)
    ]
    return _beats(
        evidence,
        _contest(ours, others.loc[filters]),
        _contest(ours[ours["objective"] == _TRAINED_WITH], trained),
    )


def _ours(cells: pd.DataFrame) -> pd.DataFrame:
    poisoned = poisoned_cells(cells)
    return poisoned[poisoned["method"] == _PUD]


def _contest(ours: pd.DataFrame, others: pd.DataFrame) -> dict[str, Beside]:
    """Return PUD beside the others in ASR and in each robust accuracy, by the metric."""
    metrics = (ATTACK, *at_epsilons(ours, ROBUST).values())
    return {metric: beside(ours, others, metric, CLEAN) for metric in metrics}


def _beats(evidence: Evidence, *contests: Mapping[str, Beside]) -> Finding:
    """Judge PUD against the best of the others in ASR, and the best in each robust accuracy.

    Which may be two, each of those measured on every victim that PUD was; the others are named.
    Every difference must lie on PUD's side with the whole of its interval, in every contest that
    has both.
    """
    left_out = told_left_out(*(one for contest in contests for one in contest.values()))
    met = [{metric: one for metric, one in each.items() if one.on_all} for each in contests]
    parts = [
        _differences(evidence, contest) for contest in met if ATTACK in contest and len(contest) > 1
    ]
    if not parts:
        return untested(
            "`pud` mended no poisoned victim, or no such defense was measured in ASR and in robust "
            f"accuracy on all that it did.{left_out}"
        )
    told = "; ".join(said for *_, said in parts)
    return Finding(
        judgment(holds=all(number.low > 0 for better, *_ in parts for number in better)),
        f"`pud` is better (+) or worse (-) than the best of them by {told}.{left_out}",
        tuple(number for better, clean, _ in parts for number in (*better, clean)),
    )


def _differences(
    evidence: Evidence, contest: Mapping[str, Beside]
) -> tuple[Sequence[Number], Number, str]:
    """Return how much better PUD is by metric, its CA beside the best in ASR, and both told."""
    better, said = [], []
    for metric, compared in contest.items():
        sign = -1 if metric == ATTACK else 1
        name = compared.best(metric, sign)
        both = compared.on_all[name]
        change = sign * (both[metric] - both[f"{metric}_other"])
        better.append(evidence.number(f"{metric} against {name}", change))
        said.append(f"{better[-1].points()} points in {_said(metric)} against `{name}`")
    best = contest[ATTACK].best(ATTACK, -1)
    both = contest[ATTACK].on_all[best]
    clean = evidence.number(f"CA less that of {best}", both[CLEAN] - both[f"{CLEAN}_other"])
    told = (
        f"{', '.join(said)}; its CA is {clean.points()} points from that of the best in ASR "
        f"({clean.counted()})"
    )
    return better, clean, told


def _said(metric: str) -> str:
    if metric == ATTACK:
        return "ASR"
    return f"accuracy under attack within {metric.rpartition('_eps')[2]}/255"
