"""cards.jsonl holds every card, with what DVC would call its files."""

import hashlib
import json

import pytest

from clipmend.engine import fingerprint
from clipmend.report.cards import cards_lines, code_parts


@pytest.fixture
def small(tree):
    return tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none"], detectors=[])


def test_a_line_per_cell_sorted_with_the_md5_of_every_file(small) -> None:
    cards = [json.loads(line) for line in cards_lines(small.inputs.values()).splitlines()]
    assert [card["cell"] for card in cards] == sorted(small.inputs)
    folder = small.root / "poison/scenes/badnet/seed0"
    (card,) = (card for card in cards if card["cell"].startswith("poison/"))
    assert card["key"] == "key of poison/scenes/badnet/seed0"
    assert card["md5"] == {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest()
        for name in ("card.json", "overlay.parquet", "triggers.json")
    }


def test_the_text_is_canonical(small) -> None:
    text = cards_lines(small.inputs.values())
    assert cards_lines(reversed(small.inputs.values())) == text
    for line in text.splitlines():
        card = json.loads(line)
        assert line == json.dumps(card, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_the_functions_of_all_code_in_the_cards_have_digests_but_not_of_code_edited_since(
    small, monkeypatch
) -> None:
    seeds, present = "clipmend.data.seeds", fingerprint.digests
    known = json.loads(code_parts(small.inputs.values()))[seeds]
    assert known["digest"] == present(seeds)[seeds]
    assert known["parts"].keys() > {"seed_of", "stream"}
    monkeypatch.setattr(fingerprint, "digests", lambda *names: present(*names) | {seeds: "edited"})
    assert seeds not in json.loads(code_parts(small.inputs.values()))
