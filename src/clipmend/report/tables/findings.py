"""What unlearning repairs found on each victim, beside the truth that no defender sees."""

from clipmend.report.results import Results
from clipmend.report.table import Section, Table, percent, whole

TITLE = "What repairs of the training pairs found"
_HEADER = (
    *("victim", "method", "found", "word", "share / base", "suspects", "chosen"),
    *("poisoned pairs among the chosen", "epochs"),
)


def section(results: Results) -> Section:
    """Return one table without controls, which do not search."""
    rows = []
    # A control, such as `ubt@oracle`, reads the truth: its finding shows nothing.
    for one in (repair for repair in results.unlearned if not repair.control):
        stated, found = one.finding, "yes" if one.finding["found"] else "no"
        shares = f"{percent(stated['word_share'])} / {percent(stated['word_base'])}"
        counts = whole(stated["n_suspects"]), whole(stated["n_chosen"])
        row = (one.victim.victim_path, one.method, found, stated["word"], shares, *counts)
        rows.append((*row, percent(one.precision), f"{stated['epochs']:g}"))
    tables = [Table.of("Shares in percent", _HEADER, rows)] if rows else []
    return Section(TITLE, tables, page_only=True)
