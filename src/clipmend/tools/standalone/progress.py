"""The results folder of a call, and its progress in it, from which a killed call goes on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipmend.data import artifacts
from clipmend.engine import files, fingerprint
from clipmend.engine.cards import canonical
from clipmend.engine.folders import visible
from clipmend.errors import ClipmendError
from clipmend.methods import table
from clipmend.methods.sources.bad_rows import LEDGER
from clipmend.model.clip import Clip
from clipmend.tools.standalone.settings import Chosen

PROGRESS = ".clipmend-progress"
MODEL = "model"  # the folder of the repaired model, for open_clip's ``local-dir:``
SUSPECTS, SHEET = "suspects.parquet", "suspects.png"
_WRITTEN = frozenset(
    (SUSPECTS, SHEET, MODEL, LEDGER, artifacts.FINDING, artifacts.CHOSEN, artifacts.CURVE)
)


def check(out: Path) -> None:
    """Refuse a folder that has files of others; what a killed call left is allowed.

    Raises:
        ClipmendError: the folder is not empty, or it is a file. Or it or its progress is a link,
            behind which files of others would be deleted.
    """
    if out.is_symlink() or (out / PROGRESS).is_symlink():
        raise ClipmendError(f"{out} is a link, or has one. Name an empty or a new folder.")
    if not out.exists() or (out.is_dir() and not _foreign(out)):
        return
    what = "is not empty" if out.is_dir() else "is a file"
    raise ClipmendError(f"{out} {what}. Name an empty or a new folder with --out.")


def begin(out: Path, key: str) -> Path:
    """Return the folder of this call's progress, new or as a killed call of this key left it.

    Results that a killed call had begun to write are removed, and so is the progress of others.

    Raises:
        ClipmendError: the folder cannot be created.
    """
    work = out / PROGRESS / key
    try:
        if (out / PROGRESS).is_dir():
            files.remove_strangers(out / PROGRESS)
            others = [path for path in (out / PROGRESS).iterdir() if path.name != key]
            for path in [*filter(_is_written, visible(out)), *others]:
                files.remove(path)
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipmendError(f"{out} cannot be created: {error.strerror}; name another.") from error
    return work


def end(out: Path) -> None:
    """Remove the progress: all results are written."""
    files.remove(out / PROGRESS)


def key_of(chosen: Chosen, model: Clip, read: Mapping[str, str], seed: int) -> str:
    """Return a hash of all that decides the results of a call.

    Args:
        read: the digests of what the call reads beside the model.
    """
    modules = [table.reference(stage, _method(chosen, stage))[0] for stage in chosen.settings]
    content: dict[str, Any] = {
        "method": chosen.method,
        "settings": chosen.settings,
        "seed": seed,
        "device": model.device.type,
        "code": fingerprint.digests("clipmend.methods.repairs.run", *modules),
        "model": digest_of(model),
        **read,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def digest_of(model: Clip) -> str:
    """Return the SHA-256 of a model's config and weights."""
    digest = hashlib.sha256(canonical(model.config).encode())
    for name, values in model.full_state().items():
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _method(chosen: Chosen, stage: str) -> str:
    return chosen.method if stage == chosen.stage else chosen.detector or ""


def _foreign(out: Path) -> bool:
    """Return whether a folder has files that no killed call left in it."""
    was_killed = (out / PROGRESS).is_dir()
    return not all(was_killed and _is_written(path) for path in visible(out))


def _is_written(path: Path) -> bool:
    return path.name in _WRITTEN or any(map(path.match, ("trigger-*.png", "pasted-*.png")))
