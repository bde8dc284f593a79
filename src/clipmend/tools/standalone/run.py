"""The work of the commands ``suspects`` and ``mend``: read, score, repair, report."""

import logging
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipmend.engine.folders import visible
from clipmend.engine.printing import printable
from clipmend.engine.runner import device_of
from clipmend.errors import ClipmendError
from clipmend.methods.interfaces import Assets
from clipmend.methods.sources.bad_rows import BadRows
from clipmend.tools.standalone.checkpoint import find_checkpoint
from clipmend.tools.standalone.inspection import Inspection, inspect
from clipmend.tools.standalone.options import Options
from clipmend.tools.standalone.reading import read_own_pairs
from clipmend.tools.standalone.settings import read_settings
from clipmend.tools.standalone.sheet import LISTED, draw

log = logging.getLogger(__name__)
MODEL = "model"  # the folder of the repaired model, for open_clip's ``local-dir:``
_PRINTED = 10  # ranked pairs; the file has all
_WIDE = 1000
_NUMBERS = {
    "similarity_before": ("cosine", "{:.2f}"),
    "similarity_after": ("after overfitting", "{:.2f}"),
    "group": ("group", "{}"),
    "p_value": ("p-value", "{:.1g}"),
}
"""The columns that are printed, where the detector has them: title and form of a value."""


def suspects(options: Options) -> None:
    """Rank the pairs by how suspect they are.

    Writes ``suspects.parquet`` (id, caption, score, the detector's columns such as suspect, rank;
    every pair, the most suspect first), ``suspects.png``, ``finding.json``, and a picture of each
    estimated trigger.

    Raises:
        ClipmendError: an option is wrong; nothing has been written then.
    """
    inspection = _inspected(options)
    _report(inspection, inspection.report(options.seed, options.out), options)


def mend(options: Options) -> None:
    """Rank the pairs, repair the model, and write it; it stays unchanged without a finding.

    Writes the files of ``suspects``, ``chosen.parquet`` and ``curve.csv`` as the stage ``unlearn``
    does, and the folder ``model``. Without labels, the curve has the loss alone.

    Raises:
        ClipmendError: an option is wrong; nothing has been written then.
    """
    inspection = _inspected(options)
    finding = inspection.mend(options.seed, options.out)
    (options.out / MODEL).mkdir()
    inspection.assets.model.save(options.out / MODEL)
    _report(inspection, finding, options)


def _inspected(options: Options) -> Inspection:
    """Return the scores. Every option is checked before the scoring starts."""
    out = options.out
    if out.exists() and not (out.is_dir() and not visible(out)):
        what = "is not empty" if out.is_dir() else "is a file"
        raise ClipmendError(f"{out} {what}. Name an empty or a new folder with --out.")
    settings = read_settings(
        options.settings or (), method=options.method, early=options.early is not None
    )
    # Whatever can be refused is refused before the scoring, which takes minutes to hours.
    device = device_of(options.device)
    checkpoint = find_checkpoint(options.model, options.architecture)
    own = Assets(
        model=checkpoint.load().to(device), fresh=lambda seed: checkpoint.fresh(seed).to(device)
    )
    if options.early is not None:
        early = checkpoint.earlier(options.early).load().to(device)
        own = replace(own, early=lambda: early)
    bad = BadRows(options.on_bad_rows)
    pairs = read_own_pairs(options, size=own.model.image_size, bad=bad)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipmendError(f"{out} cannot be created: {error.strerror}; name another.") from error
    bad.write(out)
    bad.report(str(options.pairs))
    log.info("scoring %d pairs on %s", len(pairs), device)
    return inspect(own, pairs, options.method, settings, options.seed)


def _report(inspection: Inspection, finding: dict[str, Any], options: Options) -> None:
    """Write the ranked pairs and the sheet, and print the finding."""
    pairs, columns = inspection.pairs, inspection.columns
    # Stable, so that pairs with equal scores keep the order of the file.
    order = columns["score"].argsort(descending=True, stable=True)
    table: dict[str, Any] = {"id": pairs.ids, "caption": pairs.captions}
    names = ["score", "suspect", *(name for name in columns if name not in ("score", "suspect"))]
    table |= {name: columns[name].numpy() for name in names}
    ranked = pa.table(table).take(order.numpy())
    ranked = ranked.append_column("rank", pa.array(range(1, len(pairs) + 1)))
    pq.write_table(ranked, options.out / "suspects.parquet")
    first, word = pairs.take(order[:LISTED]), finding["word"] if finding["found"] else ""
    note = f"The {len(first)} most suspect of {len(pairs):,} pairs in {options.pairs}"
    note += f", by the model {options.model}"
    triggers = sorted(options.out.glob("trigger-*.png"))
    sheet = draw(first, title=finding["says"], note=note, word=word, triggers=triggers)
    sheet.savefig(options.out / "suspects.png")
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to wrap at
    console.print(Text(printable(finding["says"]), style="bold"))
    console.print(_table(ranked, word))
    counts = f"{finding['n_pairs']:,} pairs, {finding['n_suspects']:,} of them suspects"
    before, after = finding["association_before"], finding["association_after"]
    if before is not None:
        counts += f"; cosine of the chosen images with the text of the finding: {before:.2f}"
        counts += "" if after is None else f" before, {after:.2f} after"
    files = ", ".join(sorted(p.name + "/" * p.is_dir() for p in visible(options.out)))
    for line in (f"{counts}.", f"In {options.out}: {files}"):
        console.print(printable(line), markup=False, highlight=False)


def _table(ranked: pa.Table, word: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("rank", justify="right")
    table.add_column("id", no_wrap=True, max_width=30)
    table.add_column("caption", no_wrap=True, max_width=60)
    numbers = {k: v for k, v in _NUMBERS.items() if k in ranked.column_names}
    for title, _ in numbers.values():
        table.add_column(title, justify="right")
    for row in ranked.slice(0, _PRINTED).to_pylist():
        caption = Text(printable(row["caption"]))
        if word:
            caption.highlight_words([word], "bold yellow", case_sensitive=False)
        values = (form.format(row[name]) for name, (_, form) in numbers.items())
        table.add_row(str(row["rank"]), Text(printable(row["id"])), caption, *values)
    return table
