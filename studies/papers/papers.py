"""The papers' numbers beside a run of their settings: undefended, FT, CleanCLIP and UBT.

FT is fine-tuning, UBT is Unlearning Backdoor Threats. Reads a finished results folder whose corpus
comes from CC3M. Writes ``papers.csv`` and ``papers.md``. ``reported.csv`` holds the papers'
percentages, each with its source; an empty field is unknown. Setting A is OpenAI's model fine-tuned
on 500,000 pairs of CC3M, setting B a model trained from nothing on three million.

python studies/papers/papers.py results --out DIR
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from clipmend.data.artifacts import OVERLAY, TRAIN
from clipmend.engine.cell import UNPOISONED
from clipmend.engine.job import Input
from clipmend.engine.runner import inputs_below
from clipmend.methods.table import base

SOURCE = "cc3m"  # the source of corpora that compare with the papers
OURS = "this run"
NOTE = (
    "Rows of another source are reported there; none was measured here. Several are of a single "
    "model, of a user, or the best of many epochs chosen with the trigger known, as `of` says. The "
    "last column says what this run has otherwise than the setting."
)
COLUMNS = (
    *("source", "of", "setting", "pairs", "poisons", "model", "start", "attack", "objective"),
    *("method", "clean_accuracy", "attack_success_rate", "measured_on", "differs"),
)
_TEST = 50_000  # ImageNet's validation images
_PAIRS = {"A": 500_000, "B": 3_000_000}
_POISONS, _MODEL = 1500, "RN50"
_OWN = {
    "ubt": "UBT is after its abstract",
    "pud": "PUD is carried over from classifiers",
    "badclip": "the surrogate was trained here",
    "trojvqa": "the surrogate was trained here",
    "issba": "the encoder is another",
}


def reported() -> pd.DataFrame:
    """Return the papers' rows, all as text."""
    file = Path(__file__).with_name("reported.csv")
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    return rows.assign(measured_on=f"ImageNet val, {_TEST}", differs="")


def beside_papers(means: pd.DataFrame, inputs: Mapping[str, Input]) -> pd.DataFrame:
    """Return the papers' rows of the settings that this run has, then its own, all as text.

    Empty if no corpus comes from CC3M.

    Args:
        means: means over seeds, as ``table.csv``.
    """
    corpora = {
        cell.place.corpus
        for cell in inputs.values()
        if cell.stage == "download" and cell.method == SOURCE
    }
    rows = means[means["corpus"].isin(corpora)].to_dict("records")
    ours = pd.DataFrame([_row(row, inputs) for row in rows], columns=list(COLUMNS))
    theirs = reported()
    theirs = theirs[theirs["setting"].isin(ours["setting"])]
    return pd.concat([theirs, ours], ignore_index=True)[list(COLUMNS)]


def text_of(table: pd.DataFrame) -> str:
    """Return ``papers.md``: a table per setting."""
    parts = []
    for setting, rows in table.groupby("setting"):
        text = rows.map(lambda text: f"{int(text):,}" if text.isdigit() else text)
        text.columns = text.columns.str.replace("_", " ")
        title = f"## Setting {setting}: reported elsewhere, and measured here, in percent"
        parts += [title, text.to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join([*parts, NOTE]) + "\n"


def _row(row: Mapping[Any, Any], inputs: Mapping[str, Input]) -> dict[str, str]:
    cells = (cell for cell in inputs.values() if cell.stage == "pretrain")
    key = [row[name] for name in ("corpus", "attack", "objective")]
    # Seeds of a victim share model, start and corpus: the first stands for all.
    victim = next(
        cell
        for cell in cells
        if [cell.place.corpus, cell.place.attack, cell.place.objective] == key
    )
    at = victim.place.at
    poison = inputs[at("poison").path]
    # An overlay also has pairs that the attack changed without poisoning them.
    overlay = pq.read_table(poison.folder / OVERLAY)
    counts = {
        "pairs": pq.read_metadata(inputs[at("download").path].folder / TRAIN).num_rows,
        "poisons": sum(overlay["is_poisoned"].to_pylist()),
        "test images": int(row["n_clean"]),
    }
    start, model = victim.shared.get("pretrained"), str(victim.shared.get("model", ""))
    # The start tells the setting: A fine-tunes OpenAI's model, B trains from nothing.
    setting = "B" if start is None else "A"
    return {
        "source": OURS,
        "of": f"{row['n_seeds']} seeds, trigger {row['trigger']}",
        "setting": setting,
        "pairs": str(counts["pairs"]),
        "poisons": str(counts["poisons"]),
        "model": model,
        "start": "nothing" if start is None else str(start),
        **{name: str(row[name]) for name in ("attack", "objective", "method")},
        "clean_accuracy": f"{100 * row['clean_accuracy']:.2f}",
        "attack_success_rate": f"{100 * row['attack_success_rate']:.2f}",
        "measured_on": f"test, {row['n_clean']}",
        "differs": "; ".join(_differences(row, setting, model, counts, poison.settings)),
    }


def _differences(
    row: Mapping[Any, Any],
    setting: str,
    model: str,
    counts: Mapping[str, int],
    attack: Mapping[str, Any],
) -> Iterator[str]:
    """Yield what this run has otherwise than the papers."""
    theirs = {"pairs": _PAIRS[setting], "test images": _TEST}
    # An unpoisoned victim has no number of poisons to compare.
    if base(row["attack"]) != UNPOISONED:
        theirs["poisons"] = _POISONS
    for unit, count in theirs.items():
        if counts[unit] != count:
            yield f"{counts[unit]:,} {unit}, not {count:,}"
    if attack.get("single_key"):
        yield f"{attack['single_key']:g} pairs with either key a poison, not 0"
    # The weights of OpenAI need QuickGELU; the architecture is the same.
    if model.removesuffix("-quickgelu") != _MODEL:
        yield f"{model}, not {_MODEL}"
    for name in (row["attack"], row["method"]):
        if base(name) in _OWN:
            yield _OWN[base(name)]


def make(results: Path, out: Path) -> None:
    """Write the tables of a results folder."""
    means = pd.read_csv(results / "report" / "table.csv")
    table = beside_papers(means, inputs_below(results))
    if table.empty:
        raise SystemExit(f"{results} has no victim on a corpus from CC3M.")
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "papers.csv", index=False, lineterminator="\n")
    (out / "papers.md").write_text(text_of(table), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a finished results folder")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the files")
    arguments = parser.parse_args()
    make(arguments.results, arguments.out)
