"""The pages of ``docs/results``: leaderboard, decision table, attacks, detectors, claims, cost."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined

from clipmend.engine.params import load_preset
from clipmend.methods import table
from clipmend.metrics.rates import rate
from clipmend.report import contents
from clipmend.report.cells import records
from clipmend.tools.site import from_studies, sources, tables
from clipmend.tools.site.tables import markdown, percent, points

PACKAGE_DATA = (
    "templates/README.md.j2",
    "templates/attacks.md.j2",
    "templates/choose.md.j2",
    "templates/claims.md.j2",
    "templates/cost.md.j2",
    "templates/data.md.j2",
    "templates/detectors.md.j2",
    "templates/leaderboard.md.j2",
    "templates/reproducibility.md.j2",
)
FOLDER = Path("docs/results")
_OUTCOMES = ("supported", "not supported", "not tested here")
_PAIRS = {"train": "--pairs pairs.parquet", "trusted": "--trusted clean.parquet"}
_IMPORTS = '{% from "data.md.j2" import data, words with context %}\n'


def pages(root: Path) -> dict[Path, str]:
    """Return the text of every page, by its path in the repository."""
    environment = Environment(
        loader=FunctionLoader(_template),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, from this repository's own files
    )
    environment.globals["digest"] = lambda source, name: sources.digest(root, source, name)
    cells = sources.all_cells(root)
    compared = {corpus: tables.compared(cells, corpus) for corpus in ("scenes", "photos")}
    values = {
        "README": _overview(cells, compared),
        "choose": _choices(cells, compared) | {"rebound": from_studies.rebound(root)},
        "leaderboard": _leaderboard(cells),
        "attacks": _attacks(root, cells),
        "detectors": _detectors(root),
        "claims": _claims(root),
        "cost": _cost(),
        "reproducibility": _reproducibility(root, cells),
    }
    return {
        FOLDER / f"{name}.md": environment.from_string(
            _IMPORTS + (_template(f"{name}.md.j2") or "")
        ).render(own).strip() + "\n"
        for name, own in values.items()
    }  # fmt: skip


def _template(name: str) -> str | None:
    return files("clipmend.tools.site").joinpath("templates", name).read_text(encoding="utf-8")


def answers(repairs: pd.DataFrame) -> dict[str, str]:
    """Return the recommended one of ``compared`` repairs for each kind of pairs, in numbers."""
    said = {}
    for needs in tables.NEEDS:
        said[needs] = "not measured"
        for row in best(repairs, needs):
            said[needs] = (
                f"{tables.named(row['method'], row['form'])}: CA {points(row['change'])}, "
                f"ASR {percent(row['asr'])} (worst {percent(row['worst'])}), "
                f"attacks {row['attacks']}, n = {row['n']}"
            )
    return said


def best(repairs: pd.DataFrame, needs: str) -> list[dict[str, Any]]:
    """Return the best of ``compared`` repairs that need no other pairs, if there is one."""
    possible = repairs["needs"].map(lambda need: set(need.split("+")) <= set(needs.split("+")))
    return records(repairs[possible].head(1))


def commands(compared: Mapping[str, pd.DataFrame]) -> str:
    """Return the command of each recommended repair, with its settings."""
    settings = load_preset("full")
    lines = []
    for repairs in compared.values():
        for row in (row for needs in tables.NEEDS for row in best(repairs, needs)):
            name = row["method"]
            base = table.base(name)
            stage = "unlearn" if base in table.METHODS["unlearn"] else "baselines"
            given = settings.given(stage, name) if "@" in name else {}
            pairs = " ".join(_PAIRS[need] for need in row["needs"].split("+"))
            parts = [f"clipmend mend --model victim {pairs} --method {base}"]
            parts += [f"  --set {stage}.{key}={value}" for key, value in given.items()]
            lines.append(" \\\n".join(parts))
    return "\n".join(dict.fromkeys(lines))


def _overview(cells: pd.DataFrame, compared: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    lines = []
    for corpus, repairs in compared.items():
        for needs, answer in answers(repairs).items():
            if answer != "not measured":
                lines.append(f"`{corpus}`, with {tables.NEEDS[needs]}: {answer}.")
    return {"short": lines, "used": sources.titles(cells["source"])}


def _choices(cells: pd.DataFrame, compared: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    return {
        "highest": f"{100 * tables.HIGHEST:.0f}",
        "works": f"{100 * sources.WORKS:.0f}",
        "least": tables.LEAST,
        "needs": tables.NEEDS,
        "all": len(tables.attacks()),
        "answers": {corpus: answers(repairs) for corpus, repairs in compared.items()},
        "commands": commands(compared),
        "tables": {
            corpus: markdown(tables.CHOICES, tables.choice_rows(repairs), left=2)
            for corpus, repairs in compared.items()
        },
        "training": markdown(
            ("corpus", "objective", "attack", "models", "CA", "change of CA", "mean ASR",
             "worst ASR"), tables.training_defenses(cells), left=3),
        "used": sources.titles(cells["source"]),
    }  # fmt: skip


def _leaderboard(cells: pd.DataFrame) -> dict[str, Any]:
    rows = tables.leaderboard(cells)
    return {
        "n": len(rows),
        "counts": tables.counts(cells),
        "rows": markdown(tables.LEADERBOARD, rows, left=5),
        "used": sources.titles(cells["source"]),
    }


def _attacks(root: Path, cells: pd.DataFrame) -> dict[str, Any]:
    attacks = sources.all_of(root, "attacks.csv")
    rows = tables.attack_rows(attacks, cells)
    used = {row[-1] for row in rows}
    return {"rows": markdown(tables.ATTACKS, rows), "used": sources.titles(used)}


def _detectors(root: Path) -> dict[str, Any]:
    detectors = sources.all_of(root, "detectors.csv")
    rows = tables.detector_rows(detectors)
    return {
        "rows": markdown(tables.DETECTORS, rows),
        "inputs": from_studies.inputs(root),
        "alarms": _alarms(pd.read_csv(root / "studies/see_through/false_alarms.csv")),
        "used": sources.titles(row[-1] for row in rows),
    }


def _alarms(models: pd.DataFrame) -> str:
    header = ("corpus", "models", "findings", "95 % interval", "smallest p-value")
    rows = []
    for corpus, part in [*models.groupby("corpus", sort=True), ("all", models)]:
        share = rate(int(part["found"].sum()), len(part), confidence=tables.CONFIDENCE)
        rows.append((f"`{corpus}`" if corpus != "all" else "all", str(share.n),
                     str(int(part["found"].sum())),
                     f"{percent(share.low)} to {percent(share.high)} %",
                     f"{part['p_value'].min():.2g}"))  # fmt: skip
    return markdown(header, rows)


def _claims(root: Path) -> dict[str, Any]:
    entries = sources.claims(root)
    known = {module.CLAIM.id: module.CLAIM for module in contents.claims().values()}
    own, summary = [], []
    for name, claim in known.items():
        tested = [e for e in entries if e["id"] == name and e["outcome"] != _OUTCOMES[2]]
        title = claim.claim.removesuffix(".")
        numbers = {o: sum(e["outcome"] == o for e in tested) for o in _OUTCOMES[:2]}
        summary.append((title, *(str(n) for n in numbers.values())))
        rows = [
            (e["source_title"], f"`{e['corpus']}`", e["outcome"], e["because"].replace("|", "\\|"))
            for e in tested
        ]
        tested_in = markdown(("data", "corpus", "outcome", "because"), rows, left=4)
        own.append({
            "title": title,
            "arxiv": claim.source.removeprefix("arXiv:").partition(",")[0],
            "rows": tested_in if rows else "Not tested by any committed result.",
        })  # fmt: skip
    header = ("claim", "supported", "not supported")
    return {
        "n": len(known),
        "claims": own,
        "summary": markdown(header, summary),
        "used": sources.titles(e["source_title"] for e in entries),
    }


def _cost() -> dict[str, Any]:
    path = files("clipmend.tools.estimate").joinpath("reference_times.csv")
    times = pd.read_csv(str(path), keep_default_na=False)
    header = ("stage", "method", "objective", "model", "pixels", "epochs", "pairs", "seconds",
              "machine", "origin")  # fmt: skip
    rows = [
        (row["stage"], f"`{row['method']}`" if row["method"] else "", row["objective"],
         row["model"], str(row["image_size"]), f"{row['epochs']:g}", f"{row['pairs']:,}",
         f"{row['seconds']:g}", row["machine"], row["origin"])
        for row in times.to_dict("records")
    ]  # fmt: skip
    return {"rows": markdown(header, rows, left=4), "n": len(rows)}


def _reproducibility(root: Path, cells: pd.DataFrame) -> dict[str, Any]:
    card: Mapping[str, Any] = json.loads((root / "results/report/card.json").read_bytes())
    flat = {
        name: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        for name, value in card["environment"].items()
    }
    return {
        "environment": flat,
        "key": card["key"][:12],
        "used": sources.titles(cells["source"]),
    }
