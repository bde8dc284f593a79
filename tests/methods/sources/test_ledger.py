"""The ledger and the facts: rows by hand."""

from typing import Any

import pyarrow as pa

from clipmend.methods.sources.fetching import OUTCOMES
from clipmend.methods.sources.ledger import LEDGER, facts, ledger

CAKE = "The birthday cake with candles in the form of number {} icon."


def sampled(*rows: tuple[str, str | None, str]) -> pa.Table:
    ids, captions, urls = zip(*rows, strict=True)
    return pa.table({"id": ids, "caption": pa.array(captions, pa.string()), "url": urls})


def fetched(*rows: tuple[str, str | None, str | None]) -> pa.Table:
    outcomes = [
        {"id": row_id, "reason": reason, "error": reason, "sha256": sha, "size": 9, "hops": []}
        for row_id, reason, sha in rows
    ]
    return pa.Table.from_pylist(outcomes, schema=OUTCOMES)


def made(least: int) -> tuple[dict[str, pa.Table], pa.Table]:
    parts = {
        "train": sampled(
            ("0", CAKE.format(1), "http://a/0"),
            ("1", CAKE.format(22), "http://a/1"),
            ("2", "a cat", "http://a/2"),
            ("3", None, "http://a/3"),
        ),
        "trusted": sampled(
            ("4", "A cat!", "http://a/4"),
            ("5", "a dog", "http://a/2"),
            ("6", "a cow", "http://a/6"),
        ),
    }
    outcomes = {
        "train": fetched(("0", None, "aa"), ("1", "http_404", None), ("2", None, "bb")),
        "trusted": fetched(("4", None, "bb"), ("5", None, "bb"), ("6", None, "cc")),
    }
    return parts, ledger(parts, outcomes, least)


def test_each_row_has_a_status_and_a_row_without_caption_was_not_asked_for() -> None:
    _, table = made(least=3)
    assert table.schema.equals(LEDGER)
    assert [
        (row["id"], row["split"], row["status"], row["reason"]) for row in table.to_pylist()
    ] == [
        ("0", "train", "live", None),
        ("1", "train", "failed", "http_404"),
        ("2", "train", "live", None),
        ("3", "train", "failed", "no_caption"),
        ("4", "trusted", "live", None),
        ("5", "trusted", "live", None),
        ("6", "trusted", "live", None),
    ]


def test_a_placeholder_is_counted_by_addresses_not_by_rows() -> None:
    # Three rows have the bytes bb, from two addresses.
    _, two = made(least=2)
    gone = [row["id"] for row in two.to_pylist() if row["status"] == "placeholder"]
    assert gone == ["2", "4", "5"]
    assert all(row["sha256"] == "bb" for row in two.to_pylist() if row["id"] in gone)


def test_facts_by_hand() -> None:
    parts, table = made(least=3)
    statistics: dict[str, Any] = facts(99, table, parts, near_duplicates=2)
    assert statistics["rows"]["count"] == 99
    assert statistics["splits"]["train"] == {
        "sampled": 4,
        "live": 2,
        "placeholder": 0,
        "failed": 2,
        "live_share": 0.5,
    }
    near = statistics["near_duplicate_captions"]
    assert (near["rows"], near["groups"]) == (2, 1)
    assert near["largest"] == [{"caption": "a cat", "count": 2, "ids": ["2", "4"]}]
    natural = statistics["natural_backdoor"]
    assert (natural["sampled"], natural["live"], natural["live_ids"]) == (2, 1, ["0"])
