"""``index.html``: tables, figures and definitions on one page that needs no other file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from clipmend.report.table import Section

PACKAGE_DATA = ("page.html.j2", "tables.js")
_EMBEDDED = (
    2_600_000  # bytes of figures; as text they take a third more, and the page has 4 MB at most
)


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
        name: the name of its files, without the ending.
        svg: the bytes of its SVG.
        png: the bytes of its PNG.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes

    @property
    def smaller(self) -> tuple[str, bytes]:
        """The smaller one of both files: its media type and its bytes."""
        both = {"image/svg+xml": self.svg, "image/png": self.png}
        return min(both.items(), key=lambda item: len(item[1]))


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

    @cached_property
    def sources(self) -> dict[str, str]:
        """The address of each figure by name: its own bytes, or its file once the page is full."""
        sources, room = {}, _EMBEDDED
        for picture in (*self.figures, *self.findings):
            media, content = picture.smaller
            room -= len(content)
            # An image of its own, since the ids inside two SVGs of one page would clash.
            embedded = f"data:{media};base64,{b64encode(content).decode()}"
            sources[picture.name] = embedded if room >= 0 else f"{picture.name}.png"
        return sources

    def write(self, path: Path) -> None:
        """Write the page, which loads nothing from elsewhere."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template, script = (
            files("clipmend.report").joinpath(name).read_text(encoding="utf-8")
            for name in PACKAGE_DATA
        )
        text = environment.from_string(template).render(page=self, script=script)
        path.write_text(f"{text}\n", encoding="utf-8")
