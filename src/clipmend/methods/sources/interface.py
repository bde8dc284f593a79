"""What the stage ``download`` asks of a source of image-caption pairs.

A source is a frozen dataclass whose fields are its settings. To add one, write
``methods/sources/<name>.py`` and a line in ``methods/table.py``. A source that needs no network is
a ``Source``; a source that downloads first is a ``RemoteSource``, whose ``fetch`` returns the
``Source``.
"""

# Apart from ``methods/interfaces.py``, which imports the model: a change of the model's code must
# not make every corpus again.
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from clipmend.errors import PairsError
from clipmend.methods.sources.bad_rows import BadRows


@runtime_checkable
class Source(Protocol):
    """Gives image-caption pairs as four splits, whose ids are unique over all splits."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that the zero-shot classifier distinguishes."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompt templates, each with one ``{}`` where the class name goes."""

    @property
    def image_size(self) -> int:
        """Side of the square images that models see, in pixels."""

    def split(self, name: str) -> pa.Table | pa.RecordBatchReader:
        """Return the split ``name``, one of ``SPLITS``, in the schema ``PAIRS``.

        A source whose splits may be larger than memory returns a reader.

        Raises:
            ClipmendError: the user's files or settings do not describe such pairs.
        """


@runtime_checkable
class RemoteSource(Protocol):
    """Downloads pairs before it has splits."""

    def fetch(self, work: Path, out: Path) -> Source:
        """Download into ``work`` and return the pairs.

        A second call with the same ``work`` continues after an interruption. Records about the
        download, such as a ledger, go into ``out`` beside the splits.

        Raises:
            ClipmendError: the settings do not fit, or the download failed.
        """


@runtime_checkable
class CheckedSource(Protocol):
    """A source of files whose rows may be bad; a ledger lists those that were left out."""

    @property
    def bad_rows(self) -> BadRows:
        """The rows that were left out, complete after the first call of ``split``."""


def check_vocabulary(classes: Sequence[str], prompts: Sequence[str]) -> None:
    """Refuse class names and prompts that make no zero-shot classifier.

    Raises:
        PairsError: there are fewer than two classes, a class occurs twice, or a prompt does not
            have exactly one ``{}``.
    """
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise PairsError(f"classes must be two or more different names, not {tuple(classes)}.")
    if not prompts:
        raise PairsError("prompts is empty; the zero-shot classifier needs one or more.")
    for prompt in prompts:
        if prompt.count("{}") != 1:
            raise PairsError(f"The prompt {prompt!r} needs one {{}} where the class name goes.")
