"""What became of every drawn row: the ledger, and the facts that a paper has to state."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmend.data.words import words_of

LEDGER = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("url_sha256", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("error", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("hops", pa.list_(pa.string()), nullable=False),
    ]
)
"""A row per drawn row; ``status`` is live, placeholder or failed, ``sha256`` and ``size`` are of
the bytes as they came, ``hops`` are the addresses that redirects led to."""

NATURAL_BACKDOOR = frozenset({"birthday", "cake", "candles", "number", "icon"})
"""Words of a caption that CC3M has 798 times (Huang et al. 2025, arXiv:2502.01385)."""

_SHOWN = 100  # groups of captions that the facts list


def ledger(
    drawn: Mapping[str, pa.Table], fetched: Mapping[str, pa.Table], placeholder_urls: int
) -> pa.Table:
    """Return what became of every drawn row, split by split, ids ascending.

    Bytes that come from ``placeholder_urls`` different addresses or more are what a site shows
    in the place of images that are gone.
    """
    rows = [row for split in drawn for row in _rows(split, drawn[split], fetched[split])]
    sources: dict[str, set[str]] = {}
    for row in rows:
        if row["status"] == "live":
            sources.setdefault(row["sha256"], set()).add(row["url_sha256"])
    for row in rows:
        count = len(sources.get(row["sha256"], ()))
        if count >= placeholder_urls:
            told = f"the same bytes came from {count} addresses"
            row |= {"status": "placeholder", "reason": "placeholder", "error": told}
    return pa.Table.from_pylist(rows, schema=LEDGER)


def _rows(split: str, drawn: pa.Table, fetched: pa.Table) -> Iterator[dict[str, Any]]:
    outcomes = {row["id"]: row for row in fetched.to_pylist()}
    for row_id, url in zip(drawn["id"].to_pylist(), drawn["url"].to_pylist(), strict=True):
        outcome = outcomes.get(row_id) or _NEVER_ASKED
        yield {
            **outcome,
            "id": row_id,
            "split": split,
            "url_sha256": hashlib.sha256((url or "").encode()).hexdigest(),
            "status": "live" if outcome["reason"] is None else "failed",
        }


_NEVER_ASKED: Mapping[str, Any] = {
    "reason": "no_caption",
    "error": "the row has no caption or no address, and was not asked for",
    "sha256": None,
    "size": None,
    "hops": [],
}


def facts(
    read: int, table: pa.Table, drawn: Mapping[str, pa.Table], near_duplicates: int
) -> dict[str, Any]:
    """Return counts and ids with their definitions; ``read`` is the number of rows of the file."""
    captions = pa.concat_tables(part.select(["id", "caption"]) for part in drawn.values())
    live = set(table.filter(pc.equal(table["status"], "live"))["id"].to_pylist())
    known = {
        row["id"]: row["caption"] for row in captions.to_pylist() if row["caption"] is not None
    }
    return {
        "rows": {"definition": "rows of the file that was read", "count": read},
        "splits": {
            "definition": "live_share = live / drawn; what is live is the effective subset",
            **{split: _split_facts(table, split) for split in drawn},
        },
        "reasons": {
            "definition": "drawn rows without an image, by reason",
            **_counts(table["reason"].to_pylist()),
        },
        "placeholders": {
            "definition": "drawn rows whose bytes many addresses share; removed",
            **_counts(table.filter(pc.equal(table["status"], "placeholder"))["sha256"].to_pylist()),
        },
        "redirects": {
            "definition": "drawn rows by the number of redirects that were followed",
            **_counts(str(len(hops)) for hops in table["hops"].to_pylist()),
        },
        "near_duplicate_captions": _near_duplicates(
            {row_id: known[row_id] for row_id in sorted(live)}, near_duplicates
        ),
        "natural_backdoor": _natural_backdoor(known, live),
    }


def _split_facts(table: pa.Table, split: str) -> dict[str, Any]:
    status = Counter(table.filter(pc.equal(table["split"], split))["status"].to_pylist())
    drawn = sum(status.values())
    return {
        "drawn": drawn,
        "live": status["live"],
        "placeholder": status["placeholder"],
        "failed": status["failed"],
        "live_share": status["live"] / drawn,
    }


def _counts(values: Any) -> dict[str, int]:
    found = Counter(value for value in values if value is not None)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _near_duplicates(live: Mapping[str, str], least: int) -> dict[str, Any]:
    lower = pc.utf8_lower(pa.array(list(live.values()), pa.string()))
    bare = pc.utf8_trim_whitespace(pc.replace_substring_regex(lower, r"[^\p{L}]+", " "))
    groups: dict[str, list[str]] = {}
    for row_id, caption in zip(live, bare.to_pylist(), strict=True):
        groups.setdefault(caption, []).append(row_id)
    large = {caption: ids for caption, ids in groups.items() if len(ids) >= least}
    order = sorted(large, key=lambda caption: (-len(large[caption]), caption))
    return {
        "definition": (
            f"live rows whose captions {least} or more have in common once case, digits and "
            f"punctuation are taken away; the {_SHOWN} largest groups are listed; none is removed"
        ),
        "rows": sum(map(len, large.values())),
        "groups": len(large),
        "largest": [
            {"caption": caption, "count": len(large[caption]), "ids": large[caption]}
            for caption in order[:_SHOWN]
        ],
    }


def _natural_backdoor(captions: Mapping[str, str], live: set[str]) -> dict[str, Any]:
    ids = [row_id for row_id, caption in captions.items() if words_of(caption) >= NATURAL_BACKDOOR]
    return {
        "definition": (
            f"drawn rows whose caption has the words {', '.join(sorted(NATURAL_BACKDOOR))}: the "
            "backdoor that CC3M has by itself; none is removed, and detectors rank them high"
        ),
        "drawn": len(ids),
        "live": sum(row_id in live for row_id in ids),
        "live_ids": sorted(row_id for row_id in ids if row_id in live),
    }
