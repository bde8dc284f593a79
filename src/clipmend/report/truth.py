"""What an attack did to the training pairs, which no defender sees."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from clipmend.engine.job import Input
from clipmend.report.order import Victim


def overlay_of(inputs: Mapping[str, Input], victim: Victim) -> Path:
    """Return the file of the pairs that the attack changed for this victim."""
    poison = f"poison/{victim.corpus}/{victim.attack}/seed{victim.seed}"
    return inputs[poison].folder / "overlay.parquet"


def poisoned_ids(inputs: Mapping[str, Input], victim: Victim) -> list[str]:
    """Return the ids of the pairs that the attack poisoned for this victim."""
    changed = read_frame(overlay_of(inputs, victim), "id", "is_poisoned")
    return list(changed.loc[changed["is_poisoned"], "id"])


def count_poisons(overlay: Path) -> int:
    """Return how many of the pairs that an attack changed are poisoned."""
    return int(read_frame(overlay, "is_poisoned")["is_poisoned"].sum())


def read_frame(path: Path, *columns: str) -> pd.DataFrame:
    """Return a parquet file, all of its columns if none is named."""
    table = pq.read_table(path, columns=list(columns) or None, use_threads=False)
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame
