"""The stage ``report``: gathers what every other cell measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from clipmend.engine.job import Input, Job
from clipmend.report import (
    ca_vs_asr,
    curves,
    detector_roc,
    finding,
    gallery,
    persistence,
    similarity,
)
from clipmend.report.attacks import attack_definitions, attacks_table, printed_attacks
from clipmend.report.canvas import save
from clipmend.report.cards import cards_lines, code_parts
from clipmend.report.cells import cells_table, controls_of, definitions_of
from clipmend.report.claims.check import Tables
from clipmend.report.claims.cleanings import cleanings
from clipmend.report.claims.outcomes import check_claims, claims_text, printed_claims, rules
from clipmend.report.defenses import NOTE, side_by_side
from clipmend.report.detectors import (
    DEFINITIONS,
    Scored,
    detectors_table,
    printed_detectors,
    scored_pairs,
)
from clipmend.report.facts import Belief, findings, findings_text, printed_findings
from clipmend.report.model_scores import (
    judged_victims,
    printed_verdicts,
    verdict_definitions,
    verdicts_table,
)
from clipmend.report.order import inputs_of
from clipmend.report.page import Content, Shown, write_page
from clipmend.report.robust import accuracy_under_attack, budget_notes
from clipmend.report.scale import scales
from clipmend.report.summary import metrics_text
from clipmend.report.table import Section, changes, comparison, legend, markdown, means_table
from clipmend.report.unlearned import unlearned_cells

_DOWNLOADS = (
    "cells.csv",
    "table.csv",
    "table.md",
    "attacks.csv",
    "detectors.csv",
    "model_scores.csv",
    "findings.json",
    "claims.json",
    "metrics.json",
    "cards.jsonl",
    "code.json",
)
_CONFIDENCE, _GALLERY = 0.95, 6
_COLOURS = 256  # of a PNG with many images: git keeps them


def run(job: Job) -> None:
    """Gather every cell into tables, figures and a page.

    Reads the cards and the files of all other cells. Writes ``cells.csv``, ``table.csv``,
    ``table.md``, ``attacks.csv``, ``detectors.csv``, ``model_scores.csv``, ``findings.json``,
    ``claims.json``, ``metrics.json``, ``cards.jsonl``, ``code.json``, six figures as SVG and PNG,
    one more for each victim below ``findings/``, and ``index.html``.
    """
    evaluated = inputs_of(job.inputs, "evaluate")
    confidence = _confidence(evaluated)
    cells = cells_table(job.inputs)
    table = means_table(cells, confidence)
    attacks = attacks_table(job.inputs)
    unlearned = unlearned_cells(job.inputs, controls_of(cells))
    scored = scored_pairs(job.inputs, unlearned)
    drawn = curves.read_curves(job.inputs)
    findings_shown = findings(unlearned, scored, drawn)
    judged = detectors_table(scored)
    verdicts = judged_victims(job.inputs)
    verdicted = verdicts_table(verdicts)
    sweep = cleanings(job.inputs)
    claimed = check_claims(Tables(cells, judged, sweep, scales(job.inputs), confidence))
    # The variants of a sweep are too many for a line each in the figures.
    elsewhere = frozenset(run.method for run in sweep if "@" in run.method)
    definitions = definitions_of(evaluated) | attack_definitions(job.inputs)
    content = Content(
        sections=_sections(cells, table, attacks),
        detectors=printed_detectors(judged),
        verdicts=printed_verdicts(verdicted),
        notes=_notes(cells, definitions, confidence),
        findings=printed_findings(findings_shown),
        findings_shown=_believed(job, findings_shown),
        findings_caption=finding.CAPTION,
        claims=printed_claims(claimed),
        judging=rules(),
        figures=_figures(job, cells, table, scored, drawn, elsewhere),
        definitions=definitions | DEFINITIONS | verdict_definitions(verdicts),
        downloads=_DOWNLOADS,
    )
    _write(cells, job.out / "cells.csv")
    _write(table, job.out / "table.csv")
    _write(attacks, job.out / "attacks.csv")
    _write(judged, job.out / "detectors.csv")
    _write(verdicted, job.out / "model_scores.csv")
    text = markdown(content.sections, content.notes)
    (job.out / "table.md").write_text(text, encoding="utf-8")
    (job.out / "findings.json").write_text(findings_text(findings_shown), encoding="utf-8")
    (job.out / "claims.json").write_text(claims_text(claimed), encoding="utf-8")
    (job.out / "metrics.json").write_text(metrics_text(table, judged), encoding="utf-8")
    (job.out / "cards.jsonl").write_text(cards_lines(job.inputs.values()), encoding="utf-8")
    (job.out / "code.json").write_text(code_parts(job.inputs.values()), encoding="utf-8")
    write_page(content, job.out / "index.html")


def _sections(cells: pd.DataFrame, table: pd.DataFrame, attacks: pd.DataFrame) -> list[Section]:
    return [
        Section(
            "table",
            "Clean accuracy (CA) and attack success rate (ASR), in percent",
            comparison(table),
        ),
        Section(
            "changes",
            "Change against `none` on the same victims, in percentage points",
            changes(cells),
        ),
        Section(
            "attacks",
            "Attacks, and what they do undefended",
            printed_attacks(attacks, table),
        ),
        Section("defenses", "Defenses side by side, in percent", side_by_side(table)),
        Section(
            "robustness",
            "Accuracy under attack, in percent",
            accuracy_under_attack(cells),
        ),
    ]


def _notes(cells: pd.DataFrame, definitions: Mapping[str, str], confidence: float) -> list[str]:
    defended = [NOTE] if len(cells) else []
    budgets = budget_notes(cells, definitions)
    return [*legend(cells, definitions, confidence), *defended, *budgets]


def _believed(job: Job, findings_shown: Sequence[Belief]) -> list[Shown]:
    figures = []
    for name, one in finding.shown_findings(findings_shown).items():
        (job.out / name).parent.mkdir(exist_ok=True)
        drawn = finding.draw_finding(one, finding.tiles_of(job.inputs, one))
        save(drawn, job.out, name, colors=_COLOURS)
        title = finding.title_of(one)
        figures.append(_shown(job.out, name, title, f"{title}. {one.unlearned.finding['says']}"))
    return figures


def _figures(
    job: Job,
    cells: pd.DataFrame,
    table: pd.DataFrame,
    scored: Sequence[Scored],
    drawn: Sequence[curves.Curve],
    elsewhere: frozenset[str],
) -> list[Shown]:
    count = int(job.shared.get("gallery", _GALLERY))
    cells = cells[~cells["method"].isin(elsewhere)]
    drawn = [curve for curve in drawn if curve.method not in elsewhere]
    drawings: dict[str, tuple[str, str, Callable[[], Figure]]] = {
        "ca_vs_asr": (
            "CA against ASR",
            ca_vs_asr.CAPTION,
            lambda: ca_vs_asr.draw_ca_vs_asr(cells),
        ),
        "detector_roc": (
            "Detector ROC curves",
            detector_roc.CAPTION,
            lambda: detector_roc.draw_detector_roc(scored),
        ),
        "similarity": (
            "Similarity at first and after overfitting",
            similarity.CAPTION,
            lambda: similarity.draw_similarity(scored),
        ),
        "gallery": (
            "Attack gallery",
            gallery.CAPTION,
            lambda: gallery.draw_gallery(gallery.examples(job.inputs, count)),
        ),
        "persistence": (
            "What repairs leave of attacks",
            persistence.CAPTION,
            lambda: persistence.draw_persistence(table[~table["method"].isin(elsewhere)]),
        ),
        "curves": (
            "Curves",
            curves.CAPTION,
            lambda: curves.draw_curves(drawn, controls=controls_of(cells)),
        ),
    }
    return [_figure(job.out, name, *drawing) for name, drawing in drawings.items()]


def _figure(folder: Path, name: str, title: str, caption: str, draw: Callable[[], Figure]) -> Shown:
    save(draw(), folder, name)
    return _shown(folder, name, title, caption)


def _shown(folder: Path, name: str, title: str, caption: str) -> Shown:
    return Shown(name, title, caption, (folder / f"{name}.svg").read_bytes())


def _confidence(evaluated: Sequence[Input]) -> float:
    """Return the confidence of the cells' own intervals: those over seeds have the same."""
    stated: Mapping[str, object] = evaluated[0].shared if evaluated else {}
    return float(str(stated.get("confidence", _CONFIDENCE)))


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")
