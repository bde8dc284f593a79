"""``index.html``: tables, figures and definitions on one page that needs no other file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from clipmend.report.table import Section

PACKAGE_DATA = ("page.html.j2",)


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
        name: the name of its files, without the ending.
        svg: the bytes of its SVG.
    """

    name: str
    title: str
    caption: str
    svg: bytes

    @property
    def source(self) -> str:
        """The figure as a ``data:`` address."""
        # An image of its own, since the ids inside two SVGs of one page would clash.
        return f"data:image/svg+xml;base64,{b64encode(self.svg).decode()}"


@dataclass(frozen=True)
class Page:
    """What the page shows, from top to bottom.

    Attributes:
        sections: name -> tables; a section without tables is left out.
        findings: the figures below the section of that name.
        figures: the figures below all tables.
        files: the names of the files that the page links to.
    """

    sections: Mapping[str, Section]
    findings: Sequence[Picture]
    findings_caption: str
    figures: Sequence[Picture]
    files: Sequence[str]

    @property
    def definitions(self) -> dict[str, str]:
        """Metric -> its meaning, from all sections."""
        return {k: v for section in self.sections.values() for k, v in section.definitions.items()}

    def write(self, path: Path) -> None:
        """Write the page, which loads nothing from elsewhere."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template = files("clipmend.report").joinpath(*PACKAGE_DATA).read_text(encoding="utf-8")
        text = environment.from_string(template).render(page=self)
        path.write_text(f"{text}\n", encoding="utf-8")
