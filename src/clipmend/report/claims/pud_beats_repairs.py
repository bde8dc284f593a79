"""PUD (Progressive Unified Defense) beats defenses that repair the model from trusted pairs."""

from collections.abc import Mapping

import pandas as pd

from clipmend.methods.table import base
from clipmend.report.cells import ATTACK, CLEAN, ROBUST, at_epsilons
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="pud_beats_repairs",
    claim="PUD beats defenses that repair the model, in ASR and in accuracy under adversarial "
    "attack",
    source="arXiv:2405.17929",
    paper="Classifiers on CIFAR-10, GTSRB, ten classes of ImageNet; numbers not available.",
    scope="The other repairs are those of ft, cleanclip, adversarial_ft, par and fine_pruning in "
    "the grid, with their variants, at the settings that they have here.",
    columns="cells.csv attack_success_rate, cells.csv robust_accuracy_eps<k>",
    comparison="On the poisoned victims that pud repaired, pud is compared with the best other "
    "repair in each metric. Only repairs measured on all of these victims count; the report names "
    "the others. The lowest mean ASR minus the ASR of pud must be above 0. At every epsilon "
    "measured, the robust accuracy of pud minus that of the repair with the highest mean must be "
    "above 0",
)
# These train on trusted pairs; all other repairs read the training pairs.
REPAIRS = ("ft", "cleanclip", "adversarial_ft", "par", "fine_pruning")


def check(tables: Tables) -> Outcome:
    """Check PUD against the repairs that train on trusted pairs."""
    others = victims.other_repairs(tables.cells, "pud")
    repairs = others.loc[[base(name) in REPAIRS for name in others["method"]]]
    return beats(tables, contest(pud_cells(tables.cells), repairs))


def pud_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of poisoned victims that ``pud`` repaired."""
    poisoned = victims.poisoned(cells)
    return poisoned[poisoned["method"] == "pud"]


def contest(ours: pd.DataFrame, others: pd.DataFrame) -> dict[str, victims.Comparison]:
    """Compare PUD with other defenses in ASR and in each robust accuracy; by metric."""
    metrics = (ATTACK, *at_epsilons(ours, ROBUST).values())
    return {metric: victims.compare(ours, others, metric, CLEAN) for metric in metrics}


def beats(tables: Tables, *contests: Mapping[str, victims.Comparison]) -> Outcome:
    """Check PUD against the best defense in ASR, and the best in each robust accuracy.

    These may be different defenses. Every difference must be in PUD's favor with its whole
    interval, in every contest that measured ASR and robust accuracy.
    """
    note = victims.left_out_note(*(metric for each in contests for metric in each.values()))
    better, numbers, texts = [], [], []
    for each in contests:
        measured = {metric: compared for metric, compared in each.items() if compared.rivals}
        # The claim is about both kinds of robustness: one of them alone tests nothing.
        if ATTACK not in measured or len(measured) < 2:
            continue
        parts = []
        for metric, compared in measured.items():
            sign = -1 if metric == ATTACK else 1
            best = compared.best(metric, sign)
            both = compared.rivals[best]
            change = sign * (both[metric] - both[f"{metric}_other"])
            number = tables.number(f"{metric} against {best}", change)
            within = f"accuracy under attack within {metric.rpartition('_eps')[2]}/255"
            label = "ASR" if metric == ATTACK else within
            parts.append(f"{number.text()} points in {label} against `{best}`")
            better.append(number)
            numbers.append(number)
        best = measured[ATTACK].best(ATTACK, -1)
        both = measured[ATTACK].rivals[best]
        clean = tables.number(f"CA less that of {best}", both[CLEAN] - both[f"{CLEAN}_other"])
        numbers.append(clean)  # the price of the repair, which does not decide
        texts.append(
            f"{', '.join(parts)}; its CA is {clean.text()} points from that of the best in ASR "
            f"({clean.sample()})"
        )
    if not texts:
        return untested(
            "`pud` repaired no poisoned victim, or no such defense was measured in ASR and in "
            f"robust accuracy on all victims of `pud`.{note}"
        )
    return tested(
        f"`pud` is better (+) or worse (-) than the best of them by {'; '.join(texts)}.{note}",
        numbers,
        holds=all(number.low > 0 for number in better),
    )
