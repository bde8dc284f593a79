"""The outcome of ``suspects`` and ``mend`` in the terminal."""

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipmend.engine.folders import visible
from clipmend.engine.printing import printable
from clipmend.tools.standalone.run import Outcome

_PRINTED = 10  # ranked pairs; the file has all
_WIDE = 1000
_NUMBERS = {
    "similarity_before": ("cosine", "{:.2f}"),
    "similarity_after": ("after overfitting", "{:.2f}"),
    "group": ("group", "{}"),
    "p_value": ("p-value", "{:.1g}"),
}
"""The columns that are printed, where the detector has them: title and form of a value."""


def show(outcome: Outcome) -> None:
    """Print the finding, the first ranked pairs, the counts, and the names of the files."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to wrap at
    console.print(Text(printable(outcome.says), style="bold"))
    if outcome.ranked is not None:
        console.print(_table(outcome.ranked, outcome.finding["word"] if outcome.found else ""))
    files = ", ".join(sorted(p.name + "/" * p.is_dir() for p in visible(outcome.folder)))
    for line in (*_counts(outcome), f"In {outcome.folder}: {files}"):
        console.print(printable(line), markup=False, highlight=False)


def _counts(outcome: Outcome) -> tuple[str, ...]:
    finding = outcome.finding
    if not finding:
        return ()
    counts = f"{finding['n_pairs']:,} pairs, {finding['n_suspects']:,} of them suspects"
    before, after = finding["association_before"], finding["association_after"]
    if before is not None:
        counts += f"; cosine of the chosen images with the text of the finding: {before:.2f}"
        counts += "" if after is None else f" before, {after:.2f} after"
    return (f"{counts}.",)


def _table(ranked: pa.Table, word: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("rank", justify="right")
    table.add_column("id", no_wrap=True, max_width=30)
    table.add_column("caption", no_wrap=True, max_width=60)
    numbers = {k: v for k, v in _NUMBERS.items() if k in ranked.column_names}
    for title, _ in numbers.values():
        table.add_column(title, justify="right")
    for row in ranked.slice(0, _PRINTED).to_pylist():
        caption = Text(printable(row["caption"]))
        if word:
            caption.highlight_words([word], "bold yellow", case_sensitive=False)
        values = (form.format(row[name]) for name, (_, form) in numbers.items())
        table.add_row(str(row["rank"]), Text(printable(row["id"])), caption, *values)
    return table
