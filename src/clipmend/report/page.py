"""``index.html``: tables, figures and definitions in one file that needs no other."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from clipmend.report.table import Printed, Section

PACKAGE_DATA = ("page.html.j2",)


@dataclass(frozen=True)
class Shown:
    """A figure on the page.

    Attributes:
        svg: its bytes, as they were written.
    """

    name: str
    title: str
    caption: str
    svg: bytes

    @property
    def source(self) -> str:
        """Return the figure as a ``data:`` address.

        An image of its own, since the ids inside two SVGs of one page would clash.
        """
        return f"data:image/svg+xml;base64,{b64encode(self.svg).decode()}"


@dataclass(frozen=True)
class Content:
    """What stands on the page, from top to bottom."""

    sections: Sequence[Section]
    detectors: Printed | None
    verdicts: Printed | None
    notes: Sequence[str]
    findings: Printed | None
    findings_shown: Sequence[Shown]
    findings_caption: str
    claims: Printed | None
    judging: Mapping[str, str]
    figures: Sequence[Shown]
    definitions: Mapping[str, str]
    downloads: Sequence[str]


def render(content: Content) -> str:
    """Return the page; it loads nothing from elsewhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("clipmend.report").joinpath(*PACKAGE_DATA).read_text(encoding="utf-8")
    return environment.from_string(template).render(content=content) + "\n"


def write_page(content: Content, path: Path) -> None:
    """Write the page to ``path``."""
    path.write_text(render(content), encoding="utf-8")
