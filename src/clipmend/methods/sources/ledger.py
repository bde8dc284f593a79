"""Records the outcome of every requested row: the ledger, and the facts that a paper states."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmend.data.words import words_of
from clipmend.methods.sources.fetching import OUTCOMES

_OWN = [pa.field(name, pa.string(), nullable=False) for name in ("split", "url_sha256", "status")]
_ID, *_OTHERS = (field for field in OUTCOMES if field.name != "image")
LEDGER = pa.schema([_ID, *_OWN, *_OTHERS])
"""A row per sampled row. ``status`` is live, placeholder or failed; the others are of OUTCOMES."""

NATURAL_BACKDOOR = frozenset({"birthday", "cake", "candles", "number", "icon"})
"""Words of a caption that CC3M has 798 times (Huang et al. 2025, arXiv:2502.01385)."""

_LISTED = 100  # groups of captions that the facts list; the file stays readable

_NOT_REQUESTED: Mapping[str, Any] = {
    "reason": "no_caption",
    "error": "the row has no caption or no address in UTF-8, and was not requested",
    "hops": [],
}


def ledger(
    sampled: Mapping[str, pa.Table], outcomes: Mapping[str, pa.Table], placeholder_urls: int
) -> pa.Table:
    """Return the outcome of every sampled row, split by split, ids ascending.

    The same bytes from ``placeholder_urls`` different addresses or more are a placeholder, which a
    site shows instead of an image that is gone.
    """
    rows: list[dict[str, Any]] = []
    for split, table in sampled.items():
        outcome_of = {row["id"]: row for row in outcomes[split].to_pylist()}
        for row_id, url in zip(table["id"].to_pylist(), table["url"].to_pylist(), strict=True):
            outcome = outcome_of.get(row_id) or _NOT_REQUESTED
            status = "live" if outcome["reason"] is None else "failed"
            digest = hashlib.sha256((url or "").encode()).hexdigest()
            own = {"id": row_id, "split": split, "url_sha256": digest, "status": status}
            rows.append({**outcome, **own})
    # Addresses are counted, not rows: one image with several captions is not a placeholder.
    urls: dict[str, set[str]] = {}
    for row in rows:
        if row["status"] == "live":
            urls.setdefault(row["sha256"], set()).add(row["url_sha256"])
    for row in rows:
        count = len(urls.get(row.get("sha256", ""), ()))
        if count >= placeholder_urls:
            error = f"the same bytes came from {count} addresses"
            row |= {"status": "placeholder", "reason": "placeholder", "error": error}
    return pa.Table.from_pylist(rows, schema=LEDGER)


def facts(
    file_rows: int, table: pa.Table, sampled: Mapping[str, pa.Table], near_duplicates: int
) -> dict[str, Any]:
    """Return counts and ids with their definitions; ``file_rows`` is the length of the input."""
    captions = pa.concat_tables(part.select(["id", "caption"]) for part in sampled.values())
    live = set(table.filter(pc.equal(table["status"], "live"))["id"].to_pylist())
    caption_of = {row["id"]: row["caption"] for row in captions.drop_null().to_pylist()}
    return {
        "rows": {"definition": "rows of the input file", "count": file_rows},
        "splits": {
            "definition": "live_share = live / sampled; the live rows are the effective subset",
            **{split: _split_facts(table, split) for split in sampled},
        },
        "reasons": {
            "definition": "sampled rows without an image, by reason",
            **_counts(table["reason"].to_pylist()),
        },
        "placeholders": {
            "definition": "sampled rows whose bytes came from many addresses; removed",
            **_counts(table.filter(pc.equal(table["status"], "placeholder"))["sha256"].to_pylist()),
        },
        "redirects": {
            "definition": "sampled rows by the number of redirects that were followed",
            **_counts(str(len(hops)) for hops in table["hops"].to_pylist()),
        },
        "near_duplicate_captions": _near_duplicates(
            {row_id: caption_of[row_id] for row_id in sorted(live)}, near_duplicates
        ),
        "natural_backdoor": _natural_backdoor(caption_of, live),
    }


def _split_facts(table: pa.Table, split: str) -> dict[str, Any]:
    status = Counter(table.filter(pc.equal(table["split"], split))["status"].to_pylist())
    counts = {name: status[name] for name in ("live", "placeholder", "failed")}
    return {"sampled": status.total(), **counts, "live_share": status["live"] / status.total()}


def _counts(values: Iterable[str | None]) -> dict[str, int]:
    """Return how often each value occurs, the most frequent first."""
    return dict(Counter(sorted(filter(None, values))).most_common())


def _near_duplicates(live: Mapping[str, str], least: int) -> dict[str, Any]:
    lower = pc.utf8_lower(pa.array(list(live.values()), pa.string()))
    # Captions of a series of stock photographs differ in a number or a comma.
    bare = pc.utf8_trim_whitespace(pc.replace_substring_regex(lower, r"[^\p{L}]+", " "))
    groups: dict[str, list[str]] = {}
    for row_id, caption in zip(live, bare.to_pylist(), strict=True):
        groups.setdefault(caption, []).append(row_id)
    large = [(caption, ids) for caption, ids in groups.items() if len(ids) >= least]
    large.sort(key=lambda group: (-len(group[1]), group[0]))
    return {
        "definition": (
            f"live rows with a caption that {least} or more of them share, apart from case, digits "
            f"and punctuation; the {_LISTED} largest groups are listed; no row is removed"
        ),
        "rows": sum(len(ids) for _, ids in large),
        "groups": len(large),
        "largest": [
            {"caption": caption, "count": len(ids), "ids": ids} for caption, ids in large[:_LISTED]
        ],
    }


def _natural_backdoor(caption_of: Mapping[str, str], live: set[str]) -> dict[str, Any]:
    ids = sorted(i for i, text in caption_of.items() if words_of(text) >= NATURAL_BACKDOOR)
    live_ids = [row_id for row_id in ids if row_id in live]
    return {
        "definition": (
            f"sampled rows whose caption has the words {', '.join(sorted(NATURAL_BACKDOOR))}: a "
            "backdoor that CC3M has by itself; no row is removed, and detectors rank them high"
        ),
        "sampled": len(ids),
        "live": len(live_ids),
        "live_ids": live_ids,
    }
