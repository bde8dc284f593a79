"""The page has at most 4 MB: figures beyond that are files beside it."""

import pytest

from clipmend.report.page import Page, Picture
from clipmend.report.table import Section, Table


def picture(name: str, size: int) -> Picture:
    return Picture(name, name, name, svg=b"s" * size, png=b"p" * (size + 1))


@pytest.mark.parametrize("findings", [0, 40])
def test_a_page_with_many_figures_stays_below_four_megabytes(findings, tmp_path) -> None:
    figures = [picture(f"figure{n}", 150_000) for n in range(6)]
    many = [picture(f"findings/victim{n}", 150_000) for n in range(findings)]
    tables = [Table.of("Findings", ("victim",), [("scenes",)])]
    page = Page({"findings": Section("Findings", tables)}, many, "", figures, ())
    page.write(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert len(text) < 4_000_000
    assert text.count('<img src="data:image/svg+xml;base64,') == min(6 + findings, 17)
    beside = [name for name, source in page.sources.items() if source == f"{name}.png"]
    assert beside == [one.name for one in many[11:]]
    assert all(f'<img src="{name}.png"' in text for name in beside)


def test_the_smaller_file_of_a_figure_is_embedded() -> None:
    assert Picture("a", "", "", svg=b"long", png=b"png").smaller == ("image/png", b"png")
    assert Picture("a", "", "", svg=b"svg", png=b"long").smaller == ("image/svg+xml", b"svg")
