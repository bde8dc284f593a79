"""cards.jsonl holds every card, with what DVC would call its files."""

import hashlib
import json

from clipmend.engine import fingerprint
from clipmend.report.cards import cards_lines, code_parts


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
        for name in ("card.json", "overlay.parquet", "triggers.json")
    }


def test_the_text_is_canonical(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none"], detectors=[])
    text = cards_lines(tree.inputs.values())
    assert cards_lines(reversed(tree.inputs.values())) == text
    for line in text.splitlines():
        card = json.loads(line)
        assert line == json.dumps(card, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_the_functions_of_all_code_in_the_cards_have_digests_but_not_of_code_edited_since(
    tree, monkeypatch
) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none"], detectors=[])
    known = json.loads(code_parts(tree.inputs.values()))
    assert (
        known["clipmend.data.seeds"]["digest"]
        == fingerprint.digests("clipmend.data.seeds")["clipmend.data.seeds"]
    )
    assert known["clipmend.data.seeds"]["parts"].keys() > {"seed_of", "stream"}
    present = fingerprint.digests
    monkeypatch.setattr(
        fingerprint,
        "digests",
        lambda *modules: present(*modules) | {"clipmend.data.seeds": "edited"},
    )
    assert "clipmend.data.seeds" not in json.loads(code_parts(tree.inputs.values()))
