"""Links and anchors of the Markdown pages lead somewhere, and pages are short."""

import csv
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("benchmarks", "data", "docs", "params", "results/report", "studies", "workflow")
PAGES = sorted([*ROOT.glob("*.md"), *(p for name in FOLDERS for p in ROOT.glob(f"{name}/**/*.md"))])
SOURCES = sorted(ROOT.glob("src/**/*.py")) + sorted(ROOT.glob("params/*.yaml"))
NAMED = re.compile(r"\bdocs/[\w/.-]+\.md\b")
LONGEST = 800  # words of a page that is read from its beginning to its end
EXTERNAL = re.compile(r"[a-z][a-z+.-]*:", re.IGNORECASE)


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    """Yield the target of every link and image of a page; code is no link."""
    for token in tokens(page):
        for part in token.children or []:
            yield from (str(part.attrs[name]) for name in ("href", "src") if name in part.attrs)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: list[str] = []
    blocks = tokens(page)
    for before, token in pairwise(blocks):
        if before.type == "heading_open":
            text = "".join(part.content for part in token.children or [])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            # The second heading of the same text is `slug-1`, the third one `slug-2`.
            same = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other))
            found.append(f"{slug}-{same}" if slug in found else slug)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_relative_link_of_a_page_leads_somewhere(page) -> None:
    for link in (link for link in links(page) if not EXTERNAL.match(link)):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


@pytest.mark.parametrize("kind", ["tutorials", "how-to", "explanation"])
def test_no_page_outside_of_the_reference_is_long(kind) -> None:
    pages = [ROOT / "docs/README.md", *sorted((ROOT / "docs" / kind).rglob("*.md"))]
    assert len(pages) > 4
    words = {page.name: len(page.read_text(encoding="utf-8").split()) for page in pages}
    assert {name: number for name, number in words.items() if number > LONGEST} == {}


def test_every_page_that_a_source_or_a_message_names_exists() -> None:
    texts = [(path, path.read_text(encoding="utf-8")) for path in SOURCES]
    named = {(path.name, page) for path, text in texts for page in NAMED.findall(text)}
    assert named
    assert [pair for pair in sorted(named) if not (ROOT / pair[1]).is_file()] == []


def test_the_page_of_the_two_commands_has_every_measurement_of_larger_models() -> None:
    with (ROOT / "benchmarks/results/larger_models.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 4
    page = (ROOT / "docs/reference/suspects-and-mend.md").read_text(encoding="utf-8")
    for row in rows:
        command = row["command"].replace("clipmend ", "")
        memory = int(row["peak_mb"]) / 1000
        line = f"| {row['model']} | `{command}` | {int(row['pairs']):,} | {int(row['words'])} "
        assert f"{line}| {int(row['core_seconds']):,} | {memory:.1f} GB |" in page
