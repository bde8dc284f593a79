"""The errors that a user can cause, as one tree; each message is one line.

ClipmendError
├── ParamsError         params.yaml does not describe a run
│   └── UnknownNameError    a name in it that does not exist
├── PairsError          the user's pairs, or a corpus, cannot be used
├── DownloadError       a corpus cannot be fetched
├── AttackError         an attack would poison nothing, or change no pixel
├── ModelError          a model, checkpoint or config cannot be used
├── TrainingError       training cannot start, or its loss is no longer finite
├── LibraryError        a numerical library computes other bits than portable arithmetic
├── MetricError         a number is not defined for these inputs
├── ArtifactError       a file under results/ is missing or differs from its card
├── PlanError           a cell is not in the plan, or the plan is outdated
├── AuditError          a run to compare or export does not exist
└── BusyError           another run holds the lock
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk, an exceeded quota, or an exceeded file size."""


class ClipmendError(Exception):
    """One line: the request, the reason why it fails, and the values that are allowed."""


class ParamsError(ClipmendError):
    """``params.yaml`` does not describe a run."""


class UnknownNameError(ParamsError):
    """A name that does not exist, with the nearest one that does."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} {name!r}. {suggestion(name, known)}")


class PairsError(ClipmendError):
    """Pairs that cannot be read, or that do not fit the corpus."""


class DownloadError(ClipmendError):
    """A corpus that cannot be fetched."""


class AttackError(ClipmendError):
    """An attack that would poison nothing."""


class ModelError(ClipmendError):
    """A model, checkpoint or config that cannot be used."""


class TrainingError(ClipmendError):
    """Training that cannot start, or whose loss is no longer finite."""


class LibraryError(ClipmendError):
    """A numerical library that computes other bits than portable arithmetic has."""


class MetricError(ClipmendError):
    """A number that is not defined for these inputs."""


class ArtifactError(ClipmendError):
    """A file under ``results/`` that is missing, or differs from its card."""


class PlanError(ClipmendError):
    """A cell that is not in the plan, or a plan that is outdated."""


class AuditError(ClipmendError):
    """A run to compare or export that does not exist."""


class BusyError(ClipmendError):
    """Another run holds the lock."""


def line_of(error: OSError | UnicodeError) -> str:
    """Return an error of the user's files or of the machine as one line."""
    if isinstance(error, UnicodeError):
        return (
            f"A file or a name is not UTF-8 text ({error}); save the file as UTF-8. In damaged "
            "pairs, `on_bad_rows: skip` leaves out the row."
        )
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = " and ".join(name if len(name) <= 300 else f"{name[:300]}..." for name in names)
    if error.errno in FULL:
        that = f" that holds {where}" if where else ""
        return (
            f"The disk{that} is full. Free some space and run again. Finished jobs are kept, and "
            "interrupted training resumes."
        )
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOENT:
        advice = "a file or folder was removed, or a link leads nowhere"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "change its permissions, or work in a folder of your own"
    else:
        advice = "the file system refuses it"
    return f"{where or 'A file'} cannot be used: {' '.join(reason.split())}; {advice}."


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'? Known: x, y." for a name that is not among ``known``."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
