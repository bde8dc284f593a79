"""Judges of the claims on adversarial examples and PUD (arXiv:2405.17929)."""

import pandas as pd

from clipmend.methods import base
from clipmend.report.cells import PAIR
from clipmend.report.evidence import (
    Evidence,
    Finding,
    Limits,
    judgement,
    paired,
    planted,
    poisoned_cells,
    rivals,
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
    both = planted(cells, limits["planted"])[[*on, *columns]].merge(
        clean[[*on, *columns]], on=on, suffixes=("", "_clean")
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
        judgement(holds=all(number.low > 0 for number in numbers)),
        f"Poisoned less unpoisoned: {said} (n = {numbers[0].n} pairs of victims).",
        tuple(numbers),
    )


def identifies_poison(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether PUD's scores tell poisoned pairs better than chance does.

    By AUROC, of which chance has ``chance``, and by precision at the budget, of which chance has
    the share of poisoned pairs; the latter where a budget was asked for.
    """
    table = evidence.detectors
    ours = table[(table["method"] == _PUD) & table["auroc"].notna()]
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
    return Finding(judgement(holds=holds), f"{said} (n = {auroc.n} victims).", tuple(numbers))


def beats_repairs(evidence: Evidence, limits: Limits) -> Finding:
    """Judge PUD against defences that repair the model from trusted pairs."""
    del limits
    others = _others(evidence.cells)
    return _beats(evidence, others.loc[[base(name) in _REPAIRS for name in others["method"]]])


def beats_filters(evidence: Evidence, limits: Limits) -> Finding:
    """Judge PUD against defences that filter the training pairs, in a repair or in training."""
    del limits
    cells = poisoned_cells(evidence.cells)
    trained = cells[(cells["method"] == UNDEFENDED) & (cells["needs"] == "pretraining")]
    # The defence is the objective; it stands beside PUD on what was trained without it.
    trained = trained.assign(method=trained["objective"], objective=_TRAINED_WITH)
    others = _others(evidence.cells)
    filters = [
        base(name) not in _REPAIRS and "train" in needs.split("+")
        for name, needs in zip(others["method"], others["needs"].fillna(""), strict=True)
    ]
    return _beats(evidence, pd.concat([others.loc[filters], trained]))


def _others(cells: pd.DataFrame) -> pd.DataFrame:
    poisoned = poisoned_cells(cells)
    return poisoned[poisoned["method"].isin(rivals(cells, _PUD))]


def _beats(evidence: Evidence, others: pd.DataFrame) -> Finding:
    """Judge PUD against the best of the others in ASR, and the best in each robust accuracy.

    Which may be two: with two victims or more the whole interval of every difference must lie on
    PUD's side.
    """
    cells = poisoned_cells(evidence.cells)
    ours = cells[cells["method"] == _PUD]
    numbers, said = [], []
    for metric, sign in {
        ATTACK: -1,
        **dict.fromkeys(at_epsilons(cells, ROBUST).values(), 1),
    }.items():
        best = _best(ours, others, metric, sign)
        if best is not None:
            name, both = best
            change = sign * (both[metric] - both[f"{metric}_other"])
            numbers.append(evidence.number(f"{metric} against {name}", change))
            said.append(f"{numbers[-1].points()} points in {_said(metric)} against `{name}`")
            if metric == ATTACK:
                clean = evidence.number(
                    f"CA less that of {name}", both[CLEAN] - both[f"{CLEAN}_other"]
                )
    if len(numbers) < 2:
        return untested(
            "No poisoned victim has the ASR and the robust accuracy of `pud` and of such a defence."
        )
    return Finding(
        judgement(holds=all(number.low > 0 for number in numbers)),
        f"`pud` is better (+) or worse (-) than the best of them by {', '.join(said)}; its CA is "
        f"{clean.points()} points from that of the best in ASR (n = {numbers[0].n} victims).",
        (*numbers, clean),
    )


def _said(metric: str) -> str:
    if metric == ATTACK:
        return "ASR"
    return f"accuracy under attack within {metric.rpartition('_eps')[2]}/255"


def _best(
    ours: pd.DataFrame, others: pd.DataFrame, metric: str, sign: int
) -> tuple[str, pd.DataFrame] | None:
    """Return the other with the best mean of a metric, beside PUD on the same victims."""
    tried = {}
    for name, theirs in others.groupby("method"):
        both = paired(ours, theirs, *dict.fromkeys((metric, CLEAN))).dropna()
        if len(both):
            tried[str(name)] = both
    if not tried:
        return None
    best = max(tried, key=lambda name: sign * float(tried[name][f"{metric}_other"].mean()))
    return best, tried[best]
