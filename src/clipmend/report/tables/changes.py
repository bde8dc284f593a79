"""What each repair changes: its metrics minus those of the undefended model on the same victim."""

from clipmend.report.cells import CLEAN, PAIR, SHORT, groups, per_victim, present
from clipmend.report.order import UNDEFENDED
from clipmend.report.results import Results
from clipmend.report.table import Section, victims_table

TITLE = "Change against `none` on the same victims, in percentage points"


def section(results: Results) -> Section:
    """Return a table per corpus: means over victims, where each counts once.

    A method and ``none`` are paired by victim and trigger: they start from the same model and see
    the same test images. The changes under several triggers of one victim are averaged.
    """
    cells = results.cells
    metrics = present(SHORT, cells)
    # Paired on the same images, a change has much less noise than a difference of two means.
    start = cells.loc[cells["method"] == UNDEFENDED, [*PAIR, *metrics]]
    others = cells[cells["method"] != UNDEFENDED]
    paired = others.merge(start, on=list(PAIR), suffixes=("", "_start"))
    for metric in metrics:
        paired[metric] -= paired[f"{metric}_start"]
    change = per_victim(paired, *metrics)
    tables = []
    for (corpus,), rows in groups(change, "corpus"):
        headings = {f"{SHORT[m]}, mean (lowest to highest)": m for m in present(SHORT, rows)}
        clean = {heading: m for heading, m in headings.items() if m == CLEAN}
        tables.append(victims_table(str(corpus), rows, headings, clean, "+.1f"))
    return Section(TITLE, tables)
