"""How well each detector of inputs tells triggered images from clean ones, at test time."""

from clipmend.report.cells import records
from clipmend.report.input_detection import COUNTS, RATES
from clipmend.report.results import Results
from clipmend.report.table import NAMES, Section, Table, percent, whole

TITLE = "Detectors of inputs"
DEFINITIONS = {
    "auroc": "Chance that a triggered image scores higher than a clean one; ties count half. "
    "Triggered are validation images of classes other than the target, clean are those of all.",
    "tpr": "Share of the triggered images above the threshold. The threshold is the quantile of "
    "the scores of trusted images that has the stated FPR; it knows no trigger and no label.",
    "fpr": "Share of the clean validation images above that threshold.",
    "stated_fpr": "Share of the trusted images that the threshold leaves above it.",
    "f1": "Harmonic mean of precision and TPR at that threshold, on about as many triggered images "
    "as clean ones.",
}
_HEADINGS = ("AUROC", "TPR", "FPR", "F1", "stated FPR")
_IMAGES = ("trusted images", "clean images", "triggered images")


def section(results: Results) -> Section:
    """Return one table of all victims that a detector of inputs scored, in percent."""
    names = ("method", *NAMES, "trigger")
    rows = [
        (
            *(str(row[name]) for name in names),
            *(percent(row[metric]) for metric in (*RATES, "stated_fpr")),
            *(whole(row[count]) for count in COUNTS),
        )
        for row in records(results.inputs_scored)
    ]
    if not rows:
        return Section(TITLE, [], page_only=True)
    header = (*names, *_HEADINGS, *_IMAGES)
    tables = [Table.of("Every victim and trigger, in percent", header, rows)]
    return Section(TITLE, tables, definitions=DEFINITIONS, page_only=True)
