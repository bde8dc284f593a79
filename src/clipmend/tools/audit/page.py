"""The audit as one page that loads nothing: the changed part of the graph, and every cause."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from clipmend.tools.audit.comparison import Comparison
from clipmend.tools.audit.graph import HEIGHT, WIDTH, graph
from clipmend.tools.audit.terminal import describe, summary

PACKAGE_DATA = ("page.html.j2",)


def render(comparison: Comparison) -> str:
    """Return the page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("clipmend.tools.audit").joinpath(*PACKAGE_DATA).read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        comparison=comparison,
        summary=summary(comparison),
        graph=graph(comparison),
        describe=describe,
        box={"width": WIDTH, "height": HEIGHT},
    )
    return f"{page}\n"


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(comparison), encoding="utf-8")
