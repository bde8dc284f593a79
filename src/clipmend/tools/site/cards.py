"""A page for each method: idea, paper, needs, settings, results, differences from the paper."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from clipmend.engine import schema
from clipmend.methods import table
from clipmend.methods.papers import PAPERS
from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.order import UNDEFENDED
from clipmend.tools import settings
from clipmend.tools.site import sources, tables
from clipmend.tools.site.reference import MARK
from clipmend.tools.site.tables import markdown, percent

FOLDER = Path("docs/reference/methods")
DEPARTURES = Path("docs/reference/departures.md")
KINDS = {
    "download": "source",
    "poison": "attack",
    "pretrain": "objective",
    "detect": "detector",
    "unlearn": "repair on the training pairs",
    "baselines": "repair on trusted pairs",
}
_NEEDS = {
    "detect": "the model and its training pairs, poison included",
    "pretrain": "nothing beyond the training",
    "pretraining": "control over the training",
    "train": "the training pairs, poison included",
    "trusted": "trusted clean pairs",
    "labels": "their classes",
}
_PAGES = {"poison": "attacks", "pretrain": "leaderboard", "detect": "detectors",
          "unlearn": "choose", "baselines": "choose"}  # fmt: skip
_ROWS = re.compile(r"^\| (.+?) \| (.+) \|$", re.MULTILINE)


def pages(root: Path) -> dict[Path, str]:
    """Return the page of every method, and the list of all, by their paths in the repository."""
    cells = sources.all_cells(root)
    results = _all_results(root, cells)
    departures = differences(root)
    made = {FOLDER / "README.md": _index()}
    for stage, methods in table.METHODS.items():
        for name in methods:
            made[path_of(stage, name)] = "\n\n".join([
                *_head(stage, name),
                "## Settings",
                "\n".join(settings.reference_table(settings.method_settings(stage, name))).strip(),
                *(_results(stage, name, *results[stage]) if stage in results else []),
                *_differences(stage, name, departures),
                MARK,
            ]) + "\n"  # fmt: skip
    return made


def path_of(stage: str, name: str) -> Path:
    """Return the path of a method's page in the repository."""
    return FOLDER / table.FOLDERS[stage] / f"{name}.md"


def _index() -> str:
    parts = ["# Methods", "One page per method. The page has its settings, its results here, and "
             "its differences from the paper that it follows."]  # fmt: skip
    for stage, methods in table.METHODS.items():
        rows = []
        for name, method in methods.items():
            link = path_of(stage, name).relative_to(FOLDER).as_posix()
            papers = "; ".join(PAPERS[key].citation for key in method.papers)
            idea = " ".join(_idea(stage, name)[0].split()).replace("|", "\\|")
            rows.append((f"[`{name}`]({link})", idea, papers))
        table_of_stage = markdown(("method", "idea", "paper"), rows, left=3)
        parts += [f"## `{stage}`", f"Kind: {KINDS[stage]}.", table_of_stage]
    return "\n\n".join([*parts, MARK]) + "\n"


def _idea(stage: str, name: str) -> list[str]:
    """Return the paragraphs of a method's docstring, without settings and differences."""
    text = schema.docstring(*table.reference(stage, name)).replace("``", "`")
    text = re.split(r"^(?:Attributes|Raises):$", text, flags=re.MULTILINE)[0].strip()
    return [p for p in re.split(r"\n\s*\n", text) if not p.startswith("Differs from")]


def _head(stage: str, name: str) -> list[str]:
    method = table.METHODS[stage][name]
    module, cls = table.reference(stage, name)
    source = f"src/{module.replace('.', '/')}.py"
    papers = [f"- Paper: {PAPERS[key].citation}" for key in method.papers]
    facts = [
        f"- Kind: {KINDS[stage]}; `{stage}.methods` in `params.yaml`",
        *(papers or (["- Paper: none; our own"] if stage not in ("download", "poison") else [])),
        *([f"- Needs: {needs}"] if (needs := _needs(stage, name)) else []),
        f"- Code: [`{cls}`](../../../../{source})",
    ]
    return [f"# `{name}`", "\n".join(facts), "## Idea", *_idea(stage, name)]


def _needs(stage: str, name: str) -> str:
    if stage in ("download", "poison"):
        return ""
    if stage == "detect":
        return _NEEDS[stage]
    needs = table.create(stage, name, {}).needs
    return " and ".join(_NEEDS[need] for need in needs) or _NEEDS[stage]


def _all_results(root: Path, cells: pd.DataFrame) -> dict[str, tuple[Sequence[str], tables.Rows]]:
    """Return header and rows of all methods of each stage that has results."""
    repairs: tables.Rows = [
        (*row[1:], f"`{corpus}`")
        for corpus in ("scenes", "photos")
        for row in tables.choice_rows(tables.compared(cells, corpus))
    ]
    attacks = tables.attack_rows(sources.all_of(root, "attacks.csv"), cells)
    detectors = tables.detector_rows(sources.all_of(root, "detectors.csv"))
    undefended = ("objective", "corpus", "attack", "models", "CA", "mean ASR", "worst ASR")
    repaired = (*tables.CHOICES[1:], "corpus")
    return {
        "poison": (tables.ATTACKS, attacks),
        "pretrain": (undefended, _undefended(cells)),
        "detect": (tables.DETECTORS, detectors),
        "unlearn": (repaired, repairs),
        "baselines": (repaired, repairs),
    }


def _results(stage: str, name: str, header: Sequence[str], rows: tables.Rows) -> list[str]:
    own = [row for row in rows if re.match(rf"`{re.escape(name)}[`@.]", row[0])]
    if not own:
        return ["## Results", "No committed result on the pages has this method yet."]
    meaning = f"[What the columns mean](../../../results/{_PAGES[stage]}.md). CA is clean accuracy "
    return ["## Results", meaning + "and ASR attack success rate, both in percent.",
            markdown(header, own)]  # fmt: skip


def _undefended(cells: pd.DataFrame) -> tables.Rows:
    own = cells[cells["method"] == UNDEFENDED]
    own = own.drop_duplicates(["corpus", "attack", "trigger", "objective", "seed", CLEAN, ATTACK])
    return [
        (f"`{objective}`", f"`{corpus}`", f"`{attack}`",
         str(len(part.drop_duplicates(["seed", CLEAN]))), percent(part[CLEAN].mean()),
         percent(part[ATTACK].mean()), percent(part[ATTACK].max()))
        for (corpus, attack, objective), part in
        own.groupby(["corpus", "attack", "objective"], sort=True)
    ]  # fmt: skip


@cache
def differences(root: Path) -> Mapping[str, list[tuple[str, str]]]:
    """Return the rows of the page of differences, by the method that they begin with."""
    found: dict[str, list[tuple[str, str]]] = {}
    text = (root / DEPARTURES).read_text(encoding="utf-8")
    for first, second in _ROWS.findall(text):
        for name in re.findall(r"`([a-z_0-9]+)(?:@[\w]+)?`", first):
            found.setdefault(name, []).append((first, second))
    return found


def _differences(
    stage: str, name: str, departures: Mapping[str, list[tuple[str, str]]]
) -> list[str]:
    kind = {"detect": "repair", "unlearn": "detector", "baselines": "detector"}.get(stage, "-")
    rows = [row for row in departures.get(name, []) if f"({kind})" not in row[0]]
    if not rows:
        text = schema.docstring(*table.reference(stage, name)).replace("``", "`")
        paragraphs = [p for p in re.split(r"\n\s*\n", text) if p.startswith("Differs from")]
        return ["## Differences from the paper", *paragraphs] if paragraphs else []
    moved = [
        (
            first,
            re.sub(r"\]\((?!https?:|#)([^)]+)\)", _two_up, second).replace(
                "](#", "](../../departures.md#"
            ),
        )
        for first, second in rows
    ]
    return [
        "## Differences from the paper",
        markdown(("of", "difference"), dict.fromkeys(moved), left=2),
    ]


def _two_up(match: re.Match[str]) -> str:
    return f"](../../{match[1]})"
