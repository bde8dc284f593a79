"""What was found, in plain words, in a terminal."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

_SHOWN = 10  # of the ranked pairs; the file has all
_WIDE = 1000  # a pipe has no width to wrap at


def show(finding: dict[str, Any], ranked: pa.Table, out: Path, console: Console) -> None:
    """Print the finding, the most suspect pairs, and where all is written."""
    if not console.is_terminal:
        console.width = _WIDE
    console.print(Text(finding["says"], style="bold"))
    console.print(_pairs(ranked, finding["word"] if finding["found"] else ""))
    counted = f"{finding['n_pairs']:,} pairs, {finding['n_suspects']:,} of them suspects"
    tie, left = finding["association_before"], finding["association_after"]
    if tie is not None:
        counted += f"; cosine of the chosen images with what ties them: {tie:.2f}"
        counted += "" if left is None else f" before, {left:.2f} after"
    console.print(f"{counted}.", markup=False, highlight=False)
    written = ", ".join(sorted(path.name + "/" * path.is_dir() for path in out.iterdir()))
    console.print(f"In {out}: {written}", markup=False, highlight=False)


def _pairs(ranked: pa.Table, word: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("rank", justify="right")
    table.add_column("id", no_wrap=True, max_width=30)
    table.add_column("caption", no_wrap=True, max_width=60)
    table.add_column("fits", justify="right")
    table.add_column("overfitted", justify="right")
    for row in ranked.slice(0, _SHOWN).to_pylist():
        caption = Text(row["caption"])
        if word:
            caption.highlight_words([word], "bold yellow", case_sensitive=False)
        cosines = (f"{row[f'similarity_{when}']:.2f}" for when in ("before", "after"))
        table.add_row(str(row["rank"]), Text(row["id"]), caption, *cosines)
    return table
