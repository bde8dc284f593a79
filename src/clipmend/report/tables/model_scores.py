"""Whether detectors of whole models count each victim as backdoored, beside the truth."""

from clipmend.report.cells import records
from clipmend.report.results import Results
from clipmend.report.table import NAMES, Section, Table, whole

TITLE = "Model scores"
DEFINITIONS = {
    "is_backdoored": "Whether the detector counts the model as backdoored: it compares its "
    "statistic with its threshold.",
    "found": "Whether the search of the detector succeeded. A failed search is no evidence that "
    "the model is clean.",
}


def section(results: Results) -> Section:
    """Return one table of all victims that a detector of whole models scored."""
    names = ("method", *NAMES)
    rows = [
        (
            *(str(row[name]) for name in names),
            "backdoored" if row["is_backdoored"] else "not backdoored",
            f"{row['statistic']} {row[row['statistic']]:.3f} (threshold {row['threshold']:g})",
            "yes" if row["found"] else "no",
            *(whole(row[count]) for count in ("n_images", "n_poisoned")),
        )
        for row in records(results.model_scores)
    ]
    if not rows:
        return Section(TITLE, [], page_only=True)
    header = (*names, "model score", "statistic", "found", "images", "poisoned pairs (the truth)")
    # Detectors define numbers of their own; those of joined reports are not known here.
    stated = {k: v for one in results.scored_models for k, v in one.stated["definitions"].items()}
    definitions = DEFINITIONS | dict(sorted(stated.items()))
    tables = [Table.of("Every victim, as a whole", header, rows)]
    return Section(TITLE, tables, definitions=definitions, page_only=True)
