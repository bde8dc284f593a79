"""Compare ``dvc.lock`` with the cards: the files that DVC names, and those that jobs wrote."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from clipmend.engine.cell import RESULTS
from clipmend.errors import AuditError


def differing_stages(
    collected: Mapping[str, Mapping[str, Any]], lock: bytes | None, side: str
) -> dict[str, str]:
    """Return the stages whose folder in ``dvc.lock`` differs from their cards, with the reason.

    Either files were edited after their jobs had ended, or the lock is out of date. Shards can be
    left out of DVC (docs/how-to/remotes.md); the comparison is then made without them.

    Args:
        side: the name of the side, for an error.

    Raises:
        AuditError: the lock cannot be read.
    """
    if lock is None:
        return {}
    try:
        content = yaml.safe_load(lock) or {}
        stages = {
            name: {out["path"]: out.get("md5") for out in stage.get("outs", [])}
            for name, stage in content.get("stages", {}).items()
        }
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())  # YAML's errors have several lines
        raise AuditError(f"dvc.lock of {side} cannot be read: {reason}.") from None
    differing = {}
    for name, locked in stages.items():
        listings = [
            {
                f"{cell}/{file}".partition("/")[2]: digest
                for cell, card in collected.items()
                if cell.partition("/")[0] == name
                for file, digest in card.get("md5", {}).items()
                if with_shards or "/" not in file
            }
            for with_shards in (True, False)
        ]
        # A stage without an MD5 in the lock was never committed; there is nothing to compare.
        accepted = (None, *map(directory_md5, listings))
        if listings[0] and locked.get(f"{RESULTS}/{name}") not in accepted:
            differing[name] = "dvc.lock names other files than the cards do"
    return differing


def directory_md5(files: Mapping[str, str]) -> str:
    """Return DVC's hash of a folder: the MD5 of its listing as JSON, sorted by name."""
    listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    # Byte for byte DVC's own JSON: another separator would give another hash.
    text = json.dumps(listing, sort_keys=True).encode()
    return f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}.dir"
