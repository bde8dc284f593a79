"""The rows that cannot be used: left out and listed in a ledger, or a reason to refuse all."""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipmend.errors import PairsError
from clipmend.methods.settings import OnBadRows

log = logging.getLogger(__name__)

LEDGER = "bad_rows.json"
FACTS = "facts.json"  # what a download of web addresses counts
MAX_SHARE = 0.25


class UnusableRowError(Exception):
    """A row that cannot become a pair; the text is the reason."""


@dataclass(frozen=True)
class BadRow:
    """A row that was left out.

    Attributes:
        file: the path of its file, as the settings name it.
        row: its number in the file, from 0.
        id: its id, if it has one.
        reason: why it cannot be used.
    """

    file: str
    row: int
    id: str | None
    reason: str

    def __str__(self) -> str:
        """Return place and reason in a line, without a point at the end."""
        named = "" if self.id is None else f" (id {self.id!r})"
        return f"{self.file}, row {self.row}{named}: {self.reason}"


@dataclass
class BadRows:
    """The bad rows of all files of a source, and what to do about them.

    Attributes:
        policy: ``skip`` leaves bad rows out, ``refuse`` refuses the first file that has one.
        max_share: the largest share of bad rows that ``skip`` allows.
        total: number of rows that were checked.
        found: the bad rows by file and row.
    """

    policy: OnBadRows = "skip"
    max_share: float = MAX_SHARE
    total: int = 0
    found: dict[tuple[str, int], BadRow] = field(default_factory=dict)

    def add(self, row: BadRow) -> None:
        """Add a row; it may be added again when its file is read again."""
        self.found[row.file, row.row] = row

    def check_policy(self) -> None:
        """Refuse bad rows if the policy says so; called after each file.

        Raises:
            PairsError: a row is bad and the policy is ``refuse``.
        """
        if self.policy == "refuse" and self.found:
            raise PairsError(f"{self._first()}{self._count()}. on_bad_rows: skip leaves them out.")

    def check_share(self) -> None:
        """Refuse too large a share of bad rows; called after the last file.

        Raises:
            PairsError: the share of bad rows is above ``max_share``.
        """
        if len(self.found) > self.max_share * self.total:
            raise PairsError(
                f"{self._first()}{self._count()}; max_bad_share allows {self.max_share:.0%}."
            )

    def write(self, folder: Path) -> None:
        """Write the ledger into a folder; without bad rows there is none."""
        if self.found:
            summary = {"rows": self.total, "left_out": len(self.found), "share": self.share}
            rows = [asdict(row) for row in self.found.values()]
            text = json.dumps({**summary, "bad_rows": rows}, indent=1)
            (folder / LEDGER).write_text(text + "\n", encoding="utf-8")

    def report(self, what: str) -> None:
        """Log the number of bad rows, if there are any."""
        if self.found:
            log.warning("%s: %s", what, summary_line(len(self.found), self.total))

    @property
    def share(self) -> float:
        """The share of bad rows among all rows."""
        return len(self.found) / max(1, self.total)

    def _first(self) -> BadRow:
        return next(iter(self.found.values()))

    def _count(self) -> str:
        several = len(self.found) > 1
        return f" ({len(self.found)} of {self.total} rows cannot be used)" if several else ""


def summary_of(folder: Path) -> str | None:
    """Return what the ledger in a folder counts, in a line; None if the folder has no ledger."""
    if not (folder / LEDGER).is_file():
        return None
    counts = json.loads((folder / LEDGER).read_text(encoding="utf-8"))
    return summary_line(counts["left_out"], counts["rows"])


def summary_line(left_out: int, rows: int) -> str:
    """Return the number and the share of the rows that were left out."""
    return (
        f"{left_out} of {rows} rows ({left_out / rows:.1%}) cannot be used and were left out; "
        f"{LEDGER} lists them"
    )


def undecoded(name: str) -> bool:
    """Return whether a name has bytes that are not UTF-8, which Python keeps as surrogates."""
    return any("\udc80" <= letter <= "\udcff" for letter in name)
