"""The committed results as one table: their files, revisions and present names."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from clipmend.report.cells import ATTACK, CLEAN, PAIR, TARGET, typed_cells
from clipmend.report.order import UNDEFENDED, is_poisoned

PACKAGE_DATA = ("sources.yaml",)
WORKS = 0.5
"""The least ASR of a victim that counts as backdoored: below, there is little to repair."""


@dataclass(frozen=True)
class Source:
    """A folder with committed results.

    Attributes:
        title: its name on the pages.
        folder: its path in the repository.
        page: the page that explains it.
        revision: the commit of the code that made it, or the date.
        presets: the presets that it is a run of.
        names: method of that day -> its present name.
        forms: method of that day -> its settings in words, where they are not today's defaults.
        without: the methods that are left out.
        in_tables: whether the tables list its rows; claims are listed in any case.
    """

    title: str
    folder: str
    page: str
    revision: str
    presets: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    in_tables: bool = True

    def file(self, root: Path, name: str) -> Path | None:
        """Return a file of the folder; None if it does not exist or is empty."""
        path = root / self.folder / name
        return path if path.is_file() and path.stat().st_size > 1 else None

    def cells(self, root: Path) -> pd.DataFrame | None:
        """Return ``cells.csv`` with each row's change against its own victim; None without one.

        Further columns: ``source``, ``form``, ``change`` of CA, ``target_change``, and ``before``,
        the ASR of the victim.
        """
        path = self.file(root, "cells.csv")
        if path is None:
            return None
        cells = typed_cells(pd.read_csv(path))
        victims = cells[cells["method"] == UNDEFENDED].set_index(list(PAIR))
        own = pd.MultiIndex.from_frame(cells[list(PAIR)])
        for column, metric in (("change", CLEAN), ("target_change", TARGET)):
            if metric in cells:
                cells[column] = cells[metric] - victims[metric].reindex(own).to_numpy()
        cells["before"] = victims[ATTACK].reindex(own).to_numpy()
        cells = cells[~cells["method"].isin(self.without)].copy()
        cells["form"] = cells["method"].map(self.forms).fillna("")
        cells["method"] = cells["method"].replace(dict(self.names))
        return cells.assign(source=self.title)


@cache
def sources() -> tuple[Source, ...]:
    """Return the committed results, in the order of the pages."""
    text = Path(__file__).with_name(PACKAGE_DATA[0]).read_text(encoding="utf-8")
    entries = yaml.safe_load(text)
    return tuple(Source(**{k: _frozen(v) for k, v in entry.items()}) for entry in entries)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def all_cells(root: Path) -> pd.DataFrame:
    """Return the rows of every ``cells.csv``, in the order of the sources."""
    tables = (source.cells(root) for source in sources() if source.in_tables)
    return pd.concat([table for table in tables if table is not None], ignore_index=True)


def all_of(root: Path, name: str) -> pd.DataFrame:
    """Return the rows of every CSV file of a name, with the column ``source``."""
    files = {s.title: s.file(root, name) for s in sources() if s.in_tables}
    tables = [pd.read_csv(path).assign(source=title) for title, path in files.items() if path]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def claims(root: Path) -> list[dict[str, Any]]:
    """Return the entries of every ``claims.json``, with the key ``source``.

    Reports of earlier code have ``verdict`` in the place of ``outcome``.
    """
    entries = []
    for source in sources():
        path = source.file(root, "claims.json")
        for entry in json.loads(path.read_text(encoding="utf-8")) if path else []:
            outcome = entry.get("outcome", entry.get("verdict"))
            entries.append({**entry, "outcome": outcome, "source_title": source.title})
    return [entry for entry in entries if "id" in entry]


def backdoored(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of victims whose backdoor works."""
    return cells[cells["attack"].map(is_poisoned) & (cells["before"] >= WORKS)]


def clean(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of victims that were never poisoned."""
    return cells[~cells["attack"].map(is_poisoned)]


def digest(root: Path, source: Source, name: str) -> str:
    """Return the first digits of the SHA-256 of a file of the folder."""
    return sha256((root / source.folder / name).read_bytes()).hexdigest()[:12]


def titles(rows: Iterable[str]) -> list[Source]:
    """Return the sources with these titles, in the order of the pages."""
    wanted = set(rows)
    return [source for source in sources() if source.title in wanted]
