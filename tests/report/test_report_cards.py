"""cards.jsonl holds every card, with what DVC would call its files."""

import hashlib
import json

from clipmend.report.cards import cards_lines


def test_a_line_per_cell_sorted_with_the_md5_of_every_file(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none"], detectors=[])
    lines = cards_lines(tree.inputs.values()).splitlines()
    cards = [json.loads(line) for line in lines]
    assert [card["cell"] for card in cards] == sorted(tree.inputs)
    folder = tree.root / "poison/scenes/badnet/seed0"
    (card,) = (card for card in cards if card["cell"].startswith("poison/"))
    assert card["key"] == "key of poison/scenes/badnet/seed0"
    assert card["md5"] == {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest()
        for name in ("card.json", "overlay.parquet")
    }


def test_the_text_is_canonical(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none"], detectors=[])
    text = cards_lines(tree.inputs.values())
    assert cards_lines(reversed(tree.inputs.values())) == text
    for line in text.splitlines():
        card = json.loads(line)
        assert line == json.dumps(card, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
