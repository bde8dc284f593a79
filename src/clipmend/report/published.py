"""The paper's own numbers beside ours: what arXiv:2311.14948 reports, and what this run measured.

``published.csv`` holds percentages taken from the result files that the authors committed to
``vsahil/attack-cleanclip``; an empty field is not known, "none" is known not to be reached.
"""

from collections.abc import Mapping
from importlib.resources import files

import pandas as pd
import pyarrow.parquet as pq

from clipmend.engine.job import Input
from clipmend.report.cells import records
from clipmend.report.order import Victim
from clipmend.report.table import Entry, Printed
from clipmend.report.truth import count_poisons, overlay_of

PACKAGE_DATA = ("published.csv",)
SOURCE = "arXiv:2311.14948"
OURS = "this run"
NOTE = (
    "Rows of arXiv:2311.14948 are theirs, from its authors' files: a ResNet-50 trained from "
    "nothing on CC3M or CC6M, cleaned for 20 epochs, measured on the 50,000 validation images of "
    "ImageNet. Rows of this run are ours, on its own pairs, model and validation images. Compare "
    "what cleaning does to a victim, not the level: neither the corpus, the model, the share of "
    "poison nor the number of classes is the same."
)
_SETTING = ("source", "corpus", "pairs", "poisons", "model", "measured_on")
_VICTIM = ("objective", "cleaning", "clean_pairs")
_RATES = {
    "start_ca": "start_clean_accuracy",
    "start_asr": "start_attack_success_rate",
    "max_ca": "max_clean_accuracy",
    "max_ca_asr": "max_clean_accuracy_asr",
    "best_ca_asr5": "best_clean_accuracy_asr5",
    "best_ca_asr10": "best_clean_accuracy_asr10",
    "min_asr": "min_attack_success_rate",
    "min_asr_ca": "min_attack_success_rate_ca",
}


def beside_published(pareto: pd.DataFrame, inputs: Mapping[str, Input]) -> pd.DataFrame:
    """Return the paper's rows, then this run's, all as text and in percent.

    A row of ours is a row of ``pareto.csv``.
    """
    columns = [*_SETTING, *_VICTIM, *_RATES]
    return pd.concat([_theirs(), _ours(pareto, inputs)], ignore_index=True)[columns]


def printed_published(table: pd.DataFrame) -> Printed:
    """Return both as they are printed."""
    header = tuple(name.replace("_", " ") for name in table.columns)
    rows = tuple(
        tuple(Entry(thousands(str(row[name]))) for name in table.columns)
        for row in records(table.astype(object))
    )
    return Printed("Reported elsewhere, and measured here, in percent", header, rows)


def _theirs() -> pd.DataFrame:
    with files("clipmend.report").joinpath(*PACKAGE_DATA).open(encoding="utf-8") as file:
        stated = pd.read_csv(file, dtype=str, keep_default_na=False)
    return stated.assign(source=SOURCE, measured_on="ImageNet val, 50000")


def _ours(pareto: pd.DataFrame, inputs: Mapping[str, Input]) -> pd.DataFrame:
    rows = []
    for row in records(pareto):
        victim = Victim(row["corpus"], row["attack"], row["objective"], row["seed"])
        corpus = inputs[f"download/{victim.corpus}"].folder
        rows.append(
            {
                "source": OURS,
                "corpus": f"{victim.corpus}, {victim.attack}, seed {victim.seed}",
                "pairs": str(pq.read_metadata(corpus / "train.parquet").num_rows),
                "poisons": str(count_poisons(overlay_of(inputs, victim))),
                "model": str(inputs[f"pretrain/{victim.path}"].shared.get("model", "")),
                "measured_on": f"{row['split']}, {row['n_clean']}",
                **{name: row[name] for name in ("objective", "cleaning")},
                "clean_pairs": str(row["clean_pairs"]),
                **{name: _percent(row[ours]) for name, ours in _RATES.items()},
            }
        )
    return pd.DataFrame(rows)


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f}"


def thousands(text: str) -> str:
    """Return a whole number with commas, and any other text as it is."""
    return f"{int(text):,}" if text.isdigit() else text
