"""Accuracy under adversarial examples, beside the attack success rate of the backdoor.

PGD is projected gradient descent; AutoAttack is a fixed ensemble of attacks.
"""

from clipmend.report.cells import ATTACK, CLEAN, ENSEMBLE, ROBUST, at_epsilons, groups, per_victim
from clipmend.report.results import Results
from clipmend.report.table import Section, victims_table

TITLE = "Accuracy under attack, in percent"


def section(results: Results) -> Section:
    """Return a table per corpus and objective in which any cell was attacked.

    Means are over victims, where each counts once, with the lowest and the highest: victims of
    different attacks are not a sample of one population.
    """
    cells = results.cells
    # The epsilons are settings of the run, so the columns are found by their pattern.
    metrics = {
        f"{name} {epsilon}/255": column
        for name, metric in (("robust", ROBUST), ("AutoAttack", ENSEMBLE))
        for epsilon, column in at_epsilons(cells, metric).items()
    }
    tables = []
    for (corpus, objective), rows in groups(cells, "corpus", "objective"):
        if metrics and rows[list(metrics.values())].notna().any(axis=None):
            title = f"{corpus}, {objective}: mean over victims (lowest to highest)"
            victims = per_victim(rows, CLEAN, ATTACK, *metrics.values())
            clean = {"CA": CLEAN, **metrics}
            poisoned = {"CA": CLEAN, "ASR": ATTACK, **metrics}
            tables.append(victims_table(title, victims, poisoned, clean))
    notes = [
        f"{heading[0].upper()}{heading[1:]} ({column}): {results.definitions[column]}"
        for heading, column in metrics.items()
        if column in results.definitions
    ]
    return Section(TITLE, tables, notes)
