"""Published numbers: each has a source, and the page prints exactly these."""

from pathlib import Path

import pytest

from clipmend.methods.published import (
    DETECTED,
    DIFFERENCES,
    REPAIRED,
    SOURCES,
    Detected,
    Difference,
    Repaired,
    markdown,
)

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/published.md"


def test_every_row_has_a_source_and_every_source_a_row() -> None:
    assert {row.source for row in (*REPAIRED, *DIFFERENCES, *DETECTED)} == SOURCES.keys()


def test_no_number_is_known_from_memory() -> None:
    assert not [source for source in SOURCES.values() if "memory" in source.known_from]


def test_rates_are_in_percent_and_detection_in_fractions() -> None:
    for row in REPAIRED:
        values = (row.clean_accuracy, row.attack_success_rate, row.triggered_accuracy)
        known = [value for value in values if value is not None]
        assert known
        assert all(0 <= value <= 100 for value in known)
    assert all(0 <= row.value <= 1 for row in DETECTED)
    assert {row.scores for row in DETECTED} == {"pairs", "inputs", "models"}


def test_no_cell_is_stated_twice() -> None:
    cells = [(row.source, row.model, row.attack, row.repair) for row in REPAIRED]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(REPAIRED, Repaired), (DIFFERENCES, Difference), (DETECTED, Detected)],
    ids=["repairs", "differences", "detection"],
)
def test_the_page_prints_the_table(rows, kind) -> None:
    assert markdown(rows, kind) in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_source() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, source in SOURCES.items():
        assert f"| `{name}` | {source.citation} | {source.known_from} |" in text
