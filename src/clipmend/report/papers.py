"""The papers' numbers beside a run of their settings: undefended, FT, CleanCLIP, UBT.

``papers.csv`` holds percentages, each with where it stands; an empty field is not known. Settings:
A, OpenAI's model fine-tuned on 500,000 pairs of CC3M; B, from nothing on three million.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from clipmend.engine.job import Input
from clipmend.methods.table import base
from clipmend.report.cells import records
from clipmend.report.order import UNPOISONED, inputs_of
from clipmend.report.published import thousands
from clipmend.report.table import ATTACK, CLEAN, Entry, Printed, Section
from clipmend.report.truth import count_poisons

PACKAGE_DATA = ("papers.csv",)
SOURCE = "cc3m"  # the source of a corpus that the papers' numbers stand beside
OURS = "this run"
_TABLE = "papers.csv"
NOTE = (
    "Reported elsewhere: rows of another source are its numbers, none was measured here. Several "
    "are of a single model, of a user, or the best of many epochs chosen with the trigger in hand, "
    "as `of` says; what of this run differs from the setting stands in its last column."
)
_COLUMNS = (
    *("source", "of", "setting", "pairs", "poisons", "model", "start", "attack", "objective"),
    *("method", "clean_accuracy", "attack_success_rate", "measured_on", "differs"),
)
_TEST = 50_000  # ImageNet's validation images
_OWN = {
    "ubt": "UBT is after its abstract",
    "pud": "PUD is carried over from classifiers",
    "badclip": "the surrogate was trained here",
    "trojvqa": "the surrogate was trained here",
    "issba": "the encoder is another",
}


@dataclass(frozen=True)
class _Setting:
    name: str
    pairs: int
    poisons: int
    model: str


_SETTINGS = {
    True: _Setting("A", 500_000, 1500, "RN50"),
    False: _Setting("B", 3_000_000, 1500, "RN50"),
}


@dataclass(frozen=True)
class Papers:
    """Parts of the page; all empty where no corpus comes from CC3M."""

    sections: Sequence[Section] = ()
    notes: Sequence[str] = ()
    downloads: tuple[str, ...] = ()


def reported(table: pd.DataFrame, inputs: Mapping[str, Input], folder: Path) -> Papers:
    """Return what the papers add to the report; write ``papers.csv`` where they do.

    Reads the size of ``train.parquet``, and of ``overlay.parquet`` what is poisoned.
    """
    found = beside_papers(table, inputs)
    if found.empty:
        return Papers()
    found.to_csv(folder / _TABLE, index=False, lineterminator="\n")
    section = Section("papers", "The papers' numbers, and this run's", printed_papers(found))
    return Papers([section], [NOTE], (_TABLE,))


def beside_papers(table: pd.DataFrame, inputs: Mapping[str, Input]) -> pd.DataFrame:
    """Return the papers' rows of the settings that this run has, then its own, all as text.

    Empty where no corpus comes from CC3M.

    Args:
        table: means over seeds, as ``table.csv``.
    """
    corpora = {
        given.cell.partition("/")[2]: given
        for given in inputs_of(inputs, "download")
        if given.method == SOURCE
    }
    ours = [
        _ours(row, corpora[row["corpus"]], inputs)
        for row in records(table.astype(object))
        if row["corpus"] in corpora
    ]
    settings = {row["setting"] for row in ours}
    theirs = [row for row in records(_theirs()) if row["setting"] in settings]
    return pd.DataFrame([*theirs, *ours], columns=list(_COLUMNS)).fillna("")


def printed_papers(table: pd.DataFrame) -> list[Printed]:
    """Return a printed table per setting; none where there are no rows."""
    header = tuple(name.replace("_", " ") for name in _COLUMNS)
    return [
        Printed(
            f"Setting {setting}: reported elsewhere, and measured here, in percent",
            header,
            tuple(tuple(Entry(thousands(row[name])) for name in _COLUMNS) for row in records(of)),
        )
        for setting, of in table.groupby("setting", sort=True)
    ]


def _theirs() -> pd.DataFrame:
    with files("clipmend.report").joinpath(*PACKAGE_DATA).open(encoding="utf-8") as file:
        stated = pd.read_csv(file, dtype=str, keep_default_na=False)
    return stated.assign(measured_on=f"ImageNet val, {_TEST}", differs="")


def _ours(row: Mapping[str, Any], corpus: Input, inputs: Mapping[str, Input]) -> dict[str, str]:
    victims = f"{row['corpus']}/{row['attack']}/{row['objective']}/"
    victim = next(
        given
        for given in inputs_of(inputs, "pretrain")
        if given.cell.startswith(f"pretrain/{victims}")
    )
    poison = inputs[f"poison/{row['corpus']}/{row['attack']}/seed{victim.seed}"]
    pairs = pq.read_metadata(corpus.folder / "train.parquet").num_rows
    poisons = count_poisons(poison.folder / "overlay.parquet")
    start = victim.shared.get("pretrained")
    setting = _SETTINGS[start is not None]
    model = str(victim.shared.get("model", ""))
    counts = {"pairs": (pairs, setting.pairs), "test images": (int(row["n_clean"]), _TEST)}
    if base(row["attack"]) != UNPOISONED:
        counts["poisons"] = (poisons, setting.poisons)
    return {
        "source": OURS,
        "of": f"{row['n_seeds']} seeds, trigger {row['trigger']}",
        "setting": setting.name,
        "pairs": str(pairs),
        "poisons": str(poisons),
        "model": model,
        "start": "nothing" if start is None else str(start),
        **{name: str(row[name]) for name in ("attack", "objective", "method")},
        "clean_accuracy": f"{100 * row[CLEAN]:.2f}",
        "attack_success_rate": f"{100 * row[ATTACK]:.2f}",
        "measured_on": f"test, {row['n_clean']}",
        "differs": "; ".join(_differs(row, model, setting, counts, poison.settings)),
    }


def _differs(
    row: Mapping[str, Any],
    model: str,
    setting: _Setting,
    counts: Mapping[str, tuple[int, int]],
    attack: Mapping[str, Any],
) -> Iterator[str]:
    """Yield what this run has otherwise than the papers."""
    for what, (ours, theirs) in counts.items():
        if ours != theirs:
            yield f"{ours:,} {what}, not {theirs:,}"
    if attack.get("single_key"):
        yield f"{attack['single_key']:g} pairs with either key a poison, not 0"
    if model.removesuffix("-quickgelu") != setting.model:
        yield f"{model}, not {setting.model}"
    for name in (row["attack"], row["method"]):
        if base(name) in _OWN:
            yield _OWN[base(name)]
