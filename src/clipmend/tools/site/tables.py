"""The tables of the results pages, computed from the committed results."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from clipmend.methods.table import METHODS
from clipmend.report.cells import (
    ATTACK,
    CLEAN,
    COUNTS,
    PAIR,
    TARGET,
    at_epsilons,
    means_table,
    records,
)
from clipmend.report.order import (
    UNDEFENDED,
    attack_order,
    is_poisoned,
    method_order,
    objective_order,
)
from clipmend.tools.site.sources import backdoored, clean

HIGHEST = 0.1
"""The largest ASR of any victim with which a repair is recommended."""
LEAST = 4
"""The least number of repaired backdoors with which a repair is listed."""
PLAIN = ("mmcl", "mmcl_ssl")
NEEDS = {
    "train": "the training pairs, poison included",
    "trusted": "a small set of trusted clean pairs",
    "train+trusted": "both",
}
CONFIDENCE = 0.95
LEADERBOARD = (
    "corpus",
    "attack",
    "objective",
    "repair",
    "needs",
    "seeds",
    "CA",
    "ASR",
    "worst ASR",
    "target",
    "triggered",
    "robust",
    "change of CA",
    "data",
)
CHOICES = (
    "you have",
    "repair",
    "attacks",
    "n",
    "failures",
    "change of CA",
    "mean ASR",
    "worst ASR",
    "target",
    "triggered",
    "change on clean models (n)",
    "data",
)
ATTACKS = (
    "trigger",
    "corpus",
    "poisons",
    "rate",
    "PSNR",
    "SSIM",
    "changed",
    "CA",
    "ASR",
    "worst ASR",
    "models",
    "data",
)
DETECTORS = (
    "detector",
    "corpus",
    "victims",
    "AUROC",
    "range",
    "AP",
    "recall",
    "precision",
    "poison",
    "data",
)
_WORDS = ("data", "origin", "committed result", "corpus")  # columns of words
Rows = list[tuple[str, ...]]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose first ``left`` columns, and columns of words, align left."""
    ends = ["---" if at < left or name in _WORDS else "--:" for at, name in enumerate(header)]
    lines = [header, ends, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: Any, form: str = ".1f") -> str:
    """Return a fraction in percent; empty if it is missing."""
    return "" if pd.isna(value) else f"{round(100 * float(value), 1) + 0.0:{form}}"


def points(value: Any) -> str:
    """Return a difference of fractions in points, with its sign."""
    return percent(value, "+.1f")


def named(method: str, form: str, *, control: bool = False) -> str:
    """Return a method as the tables print it, with its settings in words."""
    return f"`{method}`{'†' if control else ''}{f' ({form})' if form else ''}"


def leaderboard(cells: pd.DataFrame) -> Rows:
    """Return a row for each repair of each kind of victim, with means over seeds."""
    entries: list[tuple[dict[str, Any], pd.DataFrame, str, str]] = []
    for (source, form), part in cells.groupby(["source", "form"], sort=False):
        means = means_table(part.drop(columns=["source", "form"]), CONFIDENCE)
        for mean in records(means):
            names = ("corpus", "attack", "trigger", "objective", "stage", "method")
            own = part[(part[list(names)] == pd.Series({n: mean[n] for n in names})).all(axis=1)]
            entries.append((mean, own, str(source), str(form)))
    entries.sort(key=lambda entry: _order(entry[0], entry[2]))
    return [_entry(*entry) for entry in entries]


def _order(mean: dict[str, Any], source: str) -> tuple[Any, ...]:
    names = attack_order(mean["attack"]), mean["trigger"], objective_order(mean["objective"])
    return (mean["corpus"], *names, method_order(mean["method"]), source)


def _entry(mean: dict[str, Any], own: pd.DataFrame, source: str, form: str) -> tuple[str, ...]:
    attack = mean["attack"]
    if mean["trigger"] != attack:
        attack += f", trigger {mean['trigger']}"
    robust = at_epsilons(own, "robust_accuracy")
    return (
        mean["corpus"],
        attack,
        mean["objective"],
        named(mean["method"], form, control=bool(mean["control"])),
        mean["needs"] or "",
        str(mean["n_seeds"]),
        percent(mean[CLEAN]),
        _with_interval(mean, own),
        percent(own[ATTACK].max()),
        percent(mean.get(TARGET)),
        percent(mean.get("triggered_accuracy")),
        percent(mean.get(next(iter(robust.values()), ""))),
        "" if mean["method"] == UNDEFENDED else points(mean["change"]),
        source,
    )


def _with_interval(mean: dict[str, Any], own: pd.DataFrame) -> str:
    # Over seeds the interval is Student's; one seed has Wilson's, over its test images.
    ends = mean if len(own) > 1 else own.iloc[0]
    low, high = percent(ends[f"{ATTACK}_low"]), percent(ends[f"{ATTACK}_high"])
    return f"{percent(mean[ATTACK])} ({low} to {high})"


def counts(cells: pd.DataFrame) -> str:
    """Return the numbers of test images of each corpus, in words."""
    parts = []
    for corpus, own in cells.groupby("corpus", sort=True):
        sizes = [sorted({f"{int(n):,}" for n in own[name].dropna()}) for name in COUNTS.values()]
        parts.append(f"`{corpus}`: CA over {' or '.join(sizes[0])} images, "
                     f"ASR over {' or '.join(sizes[1])}")  # fmt: skip
    return "; ".join(parts)


def attacks() -> list[str]:
    """Return the names of all attacks, in their papers' form."""
    return [name for name in METHODS["poison"] if is_poisoned(name)]


def compared(cells: pd.DataFrame, corpus: str) -> pd.DataFrame:
    """Return a row for each repair of a corpus, on victims of all attacks whose backdoor works.

    Victims of all results count, each trained model once. Repairs of fewer than ``LEAST``
    backdoors are left out.

    Columns: needs, method, form and data; attacks (the number of different ones) and on_all
    (whether these are all); n, failures and change; ASR (mean), worst and where (the worst).
    Further target_change and triggered; clean_change and n_clean, on models without poison.
    """
    own = cells[(cells["corpus"] == corpus) & cells["objective"].isin(PLAIN)]
    own = own[(own["method"] != UNDEFENDED) & ~own["control"].astype(bool)]
    # The same model repaired in the same way has the same digits; it was listed by two results.
    own = own.drop_duplicates([*PAIR, "method", "form", CLEAN, ATTACK])
    poisoned = backdoored(own[own["attack"].isin(attacks())])
    unpoisoned = clean(own).drop_duplicates(["objective", "seed", "method", "form", CLEAN])
    by = ["needs", "method", "form"]
    rows: list[dict[str, Any]] = []
    for names, part in poisoned.groupby(by, sort=False):
        safe = unpoisoned[(unpoisoned[by] == list(names)).all(axis=1)]["change"]
        worst = part.loc[part[ATTACK].idxmax()]
        rows.append({
            **dict(zip(by, names, strict=True)),
            "data": ", ".join(dict.fromkeys(part["source"])),
            "attacks": part["attack"].nunique(),
            "on_all": set(part["attack"]) == set(attacks()),
            "n": len(part),
            "failures": int((part[ATTACK] > HIGHEST).sum()),
            "change": part["change"].mean(),
            "asr": part[ATTACK].mean(),
            "worst": worst[ATTACK],
            "where": worst["trigger"],
            "target_change": part["target_change"].mean(),
            "triggered": part["triggered_accuracy"].mean(),
            "clean_change": safe.mean(),
            "n_clean": len(safe),
        })  # fmt: skip
    repairs = pd.DataFrame(rows)
    # A defender does not know whether the model is poisoned, so the worse case counts.
    repairs["cost"] = repairs[["change", "clean_change"]].min(axis=1)
    return ordered(repairs[repairs["n"] >= LEAST])


def ordered(repairs: pd.DataFrame) -> pd.DataFrame:
    """Return the repairs from the best one down.

    Those without a failure come first, before them those that were tried on all attacks; each by
    the CA that they keep in the worse of both cases. The others follow by their worst ASR.
    """
    safe = repairs["failures"] == 0
    first = repairs[safe].sort_values(["on_all", "cost"], ascending=False, kind="stable")
    return pd.concat([first, repairs[~safe].sort_values("worst", kind="stable")])


def choice_rows(repairs: pd.DataFrame) -> Rows:
    """Return the rows of the decision table, by needs and then from the best one down."""
    return [
        (title, named(row["method"], row["form"]), str(row["attacks"]), str(row["n"]),
         str(row["failures"]), points(row["change"]), percent(row["asr"]),
         f"{percent(row['worst'])} (`{row['where']}`)", points(row["target_change"]),
         percent(row["triggered"]),
         f"{points(row['clean_change'])} ({row['n_clean']})" if row["n_clean"] else "",
         row["data"])
        for needs, title in NEEDS.items()
        for row in records(repairs[repairs["needs"] == needs])
    ]  # fmt: skip


def training_defenses(cells: pd.DataFrame) -> Rows:
    """Return a row for each objective that defends, beside ``mmcl`` on the same corpus and seed."""
    own = cells[cells["method"] == UNDEFENDED]
    keys = ["source", "corpus", "attack", "trigger", "seed"]
    plain = own[own["objective"] == "mmcl"].drop_duplicates(keys).set_index(keys)
    rows: Rows = []
    defending = own[own["needs"].fillna("").str.contains("pretraining")]
    for (corpus, objective), part in defending.groupby(["corpus", "objective"], sort=True):
        other = plain.reindex(pd.MultiIndex.from_frame(part[keys]))
        change = part[CLEAN].to_numpy() - other[CLEAN].to_numpy()
        for attack, some in part.groupby("attack", sort=True):
            where = (part["attack"] == attack).to_numpy()
            models = some.drop_duplicates(["seed", CLEAN])  # measured under several triggers
            rows.append((f"`{corpus}`", f"`{objective}`", f"`{attack}`", str(len(models)),
                         percent(some[CLEAN].mean()), points(pd.Series(change[where]).mean()),
                         percent(some[ATTACK].mean()), percent(some[ATTACK].max())))  # fmt: skip
    return rows


def detector_rows(detectors: pd.DataFrame) -> Rows:
    """Return a row for each detector of pairs, over the poisoned victims of a source."""
    own = detectors[(detectors["n_poisoned"] > 0) & (detectors["stage"] == "detect")]
    rows: Rows = []
    for (corpus, source, method), part in own.groupby(["corpus", "source", "method"], sort=True):
        auroc, found = part["auroc"], part["precision_at_budget"]
        rows.append((f"`{method}`", f"`{corpus}`", str(len(part)), f"{auroc.mean():.2f}",
                     f"{auroc.min():.2f} to {auroc.max():.2f}",
                     f"{part['average_precision'].mean():.2f}",
                     percent(part["recall_at_fpr_01"].mean()), percent(found.mean()),
                     percent(part["n_poisoned"].sum() / part["n_pairs"].sum()),
                     str(source)))  # fmt: skip
    return rows


def attack_rows(attacks: pd.DataFrame, cells: pd.DataFrame) -> Rows:
    """Return a row for each trigger: what it changes, and what it reaches undefended."""
    own = cells[(cells["method"] == UNDEFENDED) & (cells["objective"].isin(PLAIN))]
    rows: Rows = []
    listed = attacks[attacks["poisons"].notna() & (attacks["poisons"] > 0)]
    for row in records(listed):
        reached = own[(own["source"] == row["source"]) & (own["attack"] == row["attack"])]
        reached = reached[(reached["trigger"] == row["trigger"]) & (reached["seed"] == row["seed"])]
        rows.append((f"`{row['trigger']}`", f"`{row['corpus']}`", f"{int(row['poisons']):,}",
                     percent(row["poison_rate"]), number(row["psnr"], ".1f"),
                     number(row["ssim"], ".3f"), percent(row["changed"]),
                     percent(reached[CLEAN].mean()), percent(reached[ATTACK].mean()),
                     percent(reached[ATTACK].max()), str(len(reached)), row["source"]))  # fmt: skip
    return rows


def number(value: Any, form: str) -> str:
    """Return a number in a format; empty if it is missing."""
    return "" if pd.isna(value) else f"{float(value):{form}}"
