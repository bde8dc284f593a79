"""How well each detector ranks the poisoned training pairs of each victim.

AUROC is the area below the curve of the receiver operating characteristic, FPR the false positive
rate.
"""

from clipmend.report.cells import records
from clipmend.report.detection import RANKING
from clipmend.report.results import Results
from clipmend.report.table import NAMES, Section, Table, percent, whole

TITLE = "Detectors"
DEFINITIONS = {
    "auroc": "Chance that a poisoned pair scores higher than another pair; ties count half. A pair "
    "that has one of two triggers and a true caption is not poisoned.",
    "average_precision": "Precision averaged over the ranks at which poisoned pairs are found.",
    "recall_at_fpr_01": "Share of the poisoned pairs found while at most 1 % of the others score "
    "as high.",
    "precision_at_budget": "Share of poisoned pairs among the highest scores, as many as a repair "
    "unlearned by this detector (budget). If it unlearned none, or no repair reads the detector: "
    "as many as the victim's unlearning repair chooses at most.",
    "precision_of_chosen": "Share of poisoned pairs among those that a repair unlearned by this "
    "detector; empty if it unlearned none.",
}
_RATES = ("AUROC", "average precision", "recall at 1 % FPR")
_PRECISIONS = ("precision at budget", "precision of chosen")
_COUNTS = {"budget": "budget", "n_poisoned": "poisoned pairs", "n_pairs": "pairs"}


def section(results: Results) -> Section:
    """Return one table of all poisoned victims, in percent."""
    poisoned = results.detectors[results.detectors["n_poisoned"] > 0]
    names = ("method", *NAMES)
    rows = [
        (
            *(str(row[name]) for name in names),
            *(percent(row[metric]) for metric in RANKING),
            *(whole(row[count]) for count in _COUNTS),
        )
        for row in records(poisoned)
    ]
    header = (*names, *_RATES, *_PRECISIONS, *_COUNTS.values())
    tables = [Table.of("Poisoned victims, in percent", header, rows)] if rows else []
    return Section(TITLE, tables, definitions=DEFINITIONS, page_only=True)
