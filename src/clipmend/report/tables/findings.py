"""What unlearning repairs found on each victim, beside the truth that no defender sees."""

from clipmend.report.results import Results
from clipmend.report.table import Section, Table, percent, whole

TITLE = "What UBT (Unlearning Backdoor Threats) found"
_HEADER = (
    *("victim", "method", "found", "word", "share / base", "suspects", "chosen"),
    *("poisoned pairs among the chosen", "epochs"),
)


def section(results: Results) -> Section:
    """Return one table without controls, which do not search."""
    rows = []
    for one in results.unlearned:
        stated = one.finding
        # A control, such as `ubt@oracle`, reads the truth: its finding shows nothing.
        if not one.control:
            rows.append(
                (
                    one.victim.victim_path,
                    one.method,
                    "yes" if stated["found"] else "no",
                    stated["word"],
                    f"{percent(stated['word_share'])} / {percent(stated['word_base'])}",
                    whole(stated["n_suspects"]),
                    whole(stated["n_chosen"]),
                    percent(one.precision),
                    f"{stated['epochs']:g}",
                )
            )
    tables = [Table.of("Shares in percent", _HEADER, rows)] if rows else []
    return Section(TITLE, tables, page_only=True)
