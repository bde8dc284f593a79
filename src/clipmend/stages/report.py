"""The stage ``report``: gathers what every other cell measured into tables, figures and a page."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from clipmend.engine.job import Job
from clipmend.report import contents, page
from clipmend.report.cards import cards_lines, code_parts
from clipmend.report.claims.outcomes import claims_text
from clipmend.report.figures import finding
from clipmend.report.findings import findings_text
from clipmend.report.results import Results
from clipmend.report.style import blank, save
from clipmend.report.summary import metrics_text
from clipmend.report.table import Section, markdown

_COLORS = 256  # of a PNG with many images, so that it is small enough for git


def run(job: Job) -> None:
    """Gather every cell into tables, figures and a page.

    Reads the cards and the files of all other cells. Writes the files that ``report/contents.py``
    lists, an SVG and a PNG of each figure there and of each finding, and ``index.html``.
    """
    results = Results.of_job(job)
    sections = write_tables(results, job.out)
    (job.out / "findings.json").write_text(findings_text(results.findings), encoding="utf-8")
    (job.out / "cards.jsonl").write_text(cards_lines(job.inputs.values()), encoding="utf-8")
    (job.out / "code.json").write_text(code_parts(job.inputs.values()), encoding="utf-8")
    page.Page(
        sections=sections,
        findings=plot_findings(results, job.out),
        findings_caption=finding.CAPTION,
        figures=plot_figures(results, job.out),
        files=contents.FILES,
    ).write(job.out / "index.html")


def write_tables(
    results: Results, folder: Path, further: Mapping[str, Section] = MappingProxyType({})
) -> dict[str, Section]:
    """Write the tables of numbers, ``table.md`` and ``claims.json``, and return the sections."""
    for name, frame in results.frames.items():
        frame.to_csv(folder / name, index=False, lineterminator="\n")
    sections = {name: table.section(results) for name, table in contents.tables().items()}
    sections |= further
    (folder / "table.md").write_text(markdown(sections.values()), encoding="utf-8")
    (folder / "claims.json").write_text(claims_text(results.outcomes), encoding="utf-8")
    (folder / "metrics.json").write_text(metrics_text(results), encoding="utf-8")
    return sections


def plot_figures(
    results: Results, folder: Path, *, only_with_data: bool = False
) -> list[page.Picture]:
    """Plot each figure of the contents; one without data says so, or is left out."""
    pictures = []
    for name, module in contents.figures().items():
        figure = module.plot(results)
        if figure is None and only_with_data:
            continue
        save(figure or blank(module.EMPTY), folder, name)
        pictures.append(page.Picture(name, module.TITLE, module.CAPTION, *_bytes(folder, name)))
    return pictures


def plot_findings(results: Results, folder: Path) -> list[page.Picture]:
    """Plot what each unlearning repair found on each victim, at the first seed."""
    pictures = []
    for name, one in finding.findings_with_figure(results.findings).items():
        (folder / name).parent.mkdir(exist_ok=True)
        save(finding.plot(results, one), folder, name, colors=_COLORS)
        title = finding.title_of(one)
        caption = f"{title}. {one.unlearned.finding['says']}"
        pictures.append(page.Picture(name, title, caption, *_bytes(folder, name)))
    return pictures


def _bytes(folder: Path, name: str) -> tuple[bytes, bytes]:
    return (folder / f"{name}.svg").read_bytes(), (folder / f"{name}.png").read_bytes()
