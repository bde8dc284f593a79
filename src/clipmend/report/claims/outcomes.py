"""``claims.json``: the outcome of every claim, checked on a run's own tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from clipmend.methods.table import base
from clipmend.report import contents
from clipmend.report.claims.check import Tables


def check_claims(tables: Tables) -> list[dict[str, Any]]:
    """Return the entries of ``claims.json``: each claim, in page order, on each corpus.

    A claim over sizes has one entry for all corpora of one name.
    """
    # Sorted: the order of the cells must not show in the report's bytes.
    names = sorted(set(tables.cells["corpus"]))
    of_one_name = [
        [n for n in names if base(n) == root] for root in dict.fromkeys(map(base, names))
    ]
    entries = []
    for module in contents.claims().values():
        claim = module.CLAIM
        for corpora in [[name] for name in names] if claim.over == "corpus" else of_one_name:
            own = tables.of(corpora)
            outcome = module.check(own)
            entries.append(
                {
                    "id": claim.id,
                    "claim": claim.claim,
                    "source": claim.source,
                    "corpus": ", ".join(corpora),
                    "outcome": outcome.status,
                    "because": outcome.because,
                    "numbers": [asdict(number) for number in outcome.numbers],
                    "scale": {corpus: asdict(scale) for corpus, scale in own.scales.items()},
                }
            )
    return entries


def rules() -> dict[str, str]:
    """Return how each claim is checked, and its scope, by the claim's sentence."""
    return {module.CLAIM.claim: module.CLAIM.rule() for module in contents.claims().values()}


def claims_text(entries: Sequence[dict[str, Any]]) -> str:
    """Return ``claims.json``."""
    return json.dumps(entries, indent=1) + "\n"
