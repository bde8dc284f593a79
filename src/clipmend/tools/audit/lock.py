"""``dvc.lock`` against the cards: whether DVC names the files that the jobs wrote."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from clipmend.engine.cell import RESULTS


def differing_stages(
    gathered: Mapping[str, Mapping[str, Any]], lock: bytes | None
) -> dict[str, str]:
    """Return the stages whose folder is another in ``dvc.lock`` than the cards say.

    Either files were edited by hand after their jobs had ended, or the lock was not renewed. Shards
    may be left out of DVC (docs/remotes.md), then both without them are compared.
    """
    if lock is None:
        return {}
    stated = yaml.safe_load(lock) or {}
    differing = {}
    for name, stage in stated.get("stages", {}).items():
        whole, bare = (_files(gathered, name, shards=shards) for shards in (True, False))
        locked = {out["path"]: out.get("md5") for out in stage.get("outs", [])}
        known = (None, directory_md5(whole), directory_md5(bare))
        if whole and locked.get(f"{RESULTS}/{name}") not in known:
            differing[name] = "dvc.lock names other files than the cards do"
    return differing


def _files(
    gathered: Mapping[str, Mapping[str, Any]], stage: str, *, shards: bool
) -> dict[str, str]:
    """Return the MD5 of every file of a stage, relative to the stage's folder."""
    return {
        f"{cell}/{name}".partition("/")[2]: digest
        for cell, card in gathered.items()
        if cell.partition("/")[0] == stage
        for name, digest in card.get("md5", {}).items()
        if shards or "/" not in name
    }


def directory_md5(files: Mapping[str, str]) -> str:
    """Return what DVC calls a folder: the MD5 of its listing as JSON, sorted by name."""
    listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    text = json.dumps(listing, sort_keys=True).encode()
    return f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}.dir"
