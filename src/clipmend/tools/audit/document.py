"""The audit as JSON: every changed cell, every cause, nothing folded."""

from typing import Any

from clipmend.tools.audit.comparison import Change, Comparison


def document(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values; rates are fractions, hashes whole."""
    return {
        "a": comparison.a,
        "b": comparison.b,
        "same": comparison.same,
        "causes": [
            {
                "number": root.number,
                "kind": root.cause.kind,
                "what": root.cause.what,
                "old": root.cause.old,
                "new": root.cause.new,
                "cells": [change.cell for change in root.cells],
                "below": [change.cell for change in root.below],
            }
            for root in comparison.roots
        ],
        "changes": [
            {**_change(change), "causes": [comparison.numbers[cause] for cause in change.causes]}
            for change in comparison.changes
        ],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "cell": change.cell,
        "how": change.how,
        "files": {name: {"old": old, "new": new} for name, (old, new) in change.files.items()},
        "inputs": list(change.inputs),
        "numbers": {name: {"old": old, "new": new} for name, (old, new) in change.numbers.items()},
    }
