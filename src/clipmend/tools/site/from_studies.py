"""Tables of the results pages that a study of its own measured; "" while it is not committed."""

from pathlib import Path

import pandas as pd

from clipmend.engine.cell import UNPOISONED
from clipmend.report.order import attack_order, method_order, objective_order
from clipmend.tools.site.tables import markdown, percent

REBOUND = Path("studies/rebound/table.csv")
INPUTS = Path("studies/input_detectors/inputs.csv")


def rebound(root: Path) -> str:
    """Return a row per repair: for each trigger, its ASR after the repair and the highest later."""
    path = root / REBOUND
    if not path.is_file():
        return ""
    table = pd.read_csv(path, keep_default_na=False, na_values={"asr_control": [""]})
    poisoned = table[table["attack"] != UNPOISONED]
    triggers = sorted(set(poisoned["trigger"]), key=attack_order)
    rows = []
    for method in sorted(set(poisoned["method"]), key=method_order):
        own = poisoned[poisoned["method"] == method].groupby("trigger")
        before, highest, back = own["asr_before"].max(), own["asr_highest"].max(), own["comes_back"]
        entries = [
            f"{percent(before[name])} / {percent(highest[name])}{' *' * bool(back.max()[name])}"
            if name in before
            else ""
            for name in triggers
        ]
        rows.append((f"`{method}`", *entries))
    return markdown(("repair", *triggers), rows)


def inputs(root: Path) -> str:
    """Return a row per detector of inputs and objective: AUROC by trigger, and mean FPR and TPR."""
    path = root / INPUTS
    if not path.is_file():
        return ""
    table = pd.read_csv(path, keep_default_na=False, na_values={n: [""] for n in ("auroc", "tpr")})
    triggers = sorted(set(table["trigger"]) - {""}, key=attack_order)
    rows = []
    kinds = set(zip(table["method"], table["objective"], strict=True))
    for method, objective in sorted(kinds, key=lambda kind: (kind[0], objective_order(kind[1]))):
        own = table[(table["method"] == method) & (table["objective"] == objective)]
        area = own.groupby("trigger")["auroc"].mean()
        numbers = [f"{area[name]:.2f}" if name in area else "" for name in triggers]
        rates = percent(own["fpr"].mean()), percent(own["tpr"].mean())
        rows.append((f"`{method}`", f"`{objective}`", *numbers, *rates))
    return markdown(("detector", "objective", *triggers, "FPR", "TPR"), rows, left=2)
