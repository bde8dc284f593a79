"""Everything that a user can cause, as one tree; a message is one line and says what is allowed.

ClipmendError
├── ParamsError         params.yaml does not describe a run
│   └── UnknownNameError    a name in it that nothing answers to
├── PairsError          the user's pairs, or a corpus, do not fit
├── DownloadError       a corpus cannot be fetched
├── AttackError         an attack would poison nothing, or change no pixel
├── ModelError          a model, checkpoint or config cannot be used
├── TrainingError       training cannot start, or its loss is no longer finite
├── MetricError         a number that is not defined for these inputs
├── ArtifactError       a file under results/ is missing or not what its card says
├── PlanError           a cell is not in the plan, or the plan is no longer true
├── AuditError          what is to be compared or exported is not there
└── BusyError           another run holds the lock
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the operating system says of a disk, a quota, or the size of a file, that is used up."""


class ClipmendError(Exception):
    """One line: what was asked, why it cannot be, what is allowed."""


class ParamsError(ClipmendError):
    """``params.yaml`` does not describe a run."""


class UnknownNameError(ParamsError):
    """A name that nothing answers to, with the nearest one that exists."""

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


class MetricError(ClipmendError):
    """A number that is not defined for these inputs."""


class ArtifactError(ClipmendError):
    """A file under ``results/`` that is missing, or not what its card says."""


class PlanError(ClipmendError):
    """A cell that is not in the plan, or a plan that is no longer true."""


class AuditError(ClipmendError):
    """A run that is to be compared or exported, and is not there."""


class BusyError(ClipmendError):
    """Another run holds the lock."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'? Known: x, y." for a name that is not among ``known``."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
