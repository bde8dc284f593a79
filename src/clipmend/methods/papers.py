"""The papers of the methods, as data: documentation and report take their citations from here."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Paper:
    """A paper that a method follows.

    Attributes:
        authors: all authors if there are one or two, else the first one and "et al.".
        title: the title as published.
        venue: the journal or conference, abbreviated; ``arXiv`` where no other one is certain.
        year: the year of that publication.
        arxiv: the number on arXiv; None: the paper is not there.
    """

    authors: str
    title: str
    venue: str
    year: int
    arxiv: str | None = None

    @property
    def citation(self) -> str:
        """The paper in one line of Markdown, linked to arXiv if it is there."""
        title = self.title
        if self.arxiv is not None:
            title = f"[{title}](https://arxiv.org/abs/{self.arxiv})"
        return f"{self.authors}, {title}, {self.venue} {self.year}"


PACKAGE_DATA = ("papers.yaml",)
_FILE = Path(__file__).with_name(PACKAGE_DATA[0])
PAPERS = {
    key: Paper(authors, title, venue, year, key if "." in key else None)
    for key, (authors, title, venue, year) in yaml.safe_load(_FILE.read_text("utf-8")).items()
}
"""Every paper of ``methods.table``, by the key that stands there."""
