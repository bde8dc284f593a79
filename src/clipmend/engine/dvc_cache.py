"""The folders in which DVC keeps the files that links in ``results/`` may lead to."""

import re
from functools import cache
from pathlib import Path

_OBJECT = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}$")  # named by the MD5 of its bytes


def holds(path: str, folder: Path) -> bool:
    """Return whether a real path is that of an object in the cache of a project.

    Args:
        path: the path, without links in it.
        folder: a folder of the project.
    """
    above = (folder.absolute(), *folder.absolute().parents)
    home = next((at / ".dvc" for at in above if (at / ".dvc").is_dir()), None)
    return (
        home is not None
        and _OBJECT.search(path) is not None
        and any(path.startswith(f"{cache}/") for cache in _caches(home))
    )


@cache
def _caches(home: Path) -> tuple[Path, ...]:
    """Return the caches of the project whose folder ``.dvc`` this is."""
    # Imported here: it takes a fifth of a second, and results without links do not need it.
    from dvc.config import Config, ConfigError

    try:
        chosen = Config(dvc_dir=str(home))["cache"].get("dir")
    except (ConfigError, OSError, ValueError):
        chosen = None
    return tuple({(home / "cache").resolve(), Path(home, chosen or "cache").resolve()})
