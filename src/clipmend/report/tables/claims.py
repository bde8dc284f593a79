"""Claims of the papers, and what this run shows about each of them."""

from clipmend.report.claims.outcomes import rules
from clipmend.report.results import Results
from clipmend.report.scale import Scale
from clipmend.report.table import Section, Table

TITLE = "Claims"
_COLUMNS = ("claim", "source", "corpus", "outcome", "because")


def section(results: Results) -> Section:
    """Return one table of outcomes, each with the scale at which the claim was checked."""
    rows = []
    for entry in results.outcomes:
        texts = {corpus: Scale(**scale).text() for corpus, scale in entry["scale"].items()}
        scales = [f"{corpus}: {text}" if len(texts) > 1 else text for corpus, text in texts.items()]
        rows.append((*(entry[name] for name in _COLUMNS), "; ".join(scales)))
    tables = [Table.of("Outcomes", (*_COLUMNS, "scale"), rows)] if rows else []
    return Section(TITLE, tables, kind="words", details=rules(), page_only=True)
