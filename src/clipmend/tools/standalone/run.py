"""The work of the commands ``suspects`` and ``mend``: read, score, repair, report."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.engine.runner import device_of
from clipmend.errors import ClipmendError
from clipmend.methods.interfaces import Assets
from clipmend.methods.sources.bad_rows import BadRows, undecoded
from clipmend.model.clip import Clip
from clipmend.tools.standalone import progress
from clipmend.tools.standalone.checkpoint import find_checkpoint
from clipmend.tools.standalone.inspection import Inspection, inspect
from clipmend.tools.standalone.model_card import model_card
from clipmend.tools.standalone.options import Options
from clipmend.tools.standalone.reading import OwnPairs, read_own_pairs
from clipmend.tools.standalone.settings import Chosen, choose
from clipmend.tools.standalone.sheet import LISTED, draw

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a call found and did.

    Attributes:
        says: the finding, or what was done, in a sentence.
        found: whether a backdoor was found; None: the method makes no finding.
        finding: the content of ``finding.json``; empty if the method makes no finding.
        ranked: every pair, the most suspect first, as in ``suspects.parquet``; None: the method
            ranks no pairs.
        folder: the folder with the results.
        model: the folder of the repaired model, which open_clip loads; None after ``suspects``.
    """

    says: str
    found: bool | None
    finding: dict[str, Any]
    ranked: pa.Table | None
    folder: Path
    model: Path | None = None


def suspects(options: Options) -> Outcome:
    """Rank the pairs by how suspect they are.

    Writes ``suspects.parquet`` (id, caption, score, the detector's columns such as suspect, rank;
    every pair, the most suspect first) and ``suspects.png``. A method with a finding also writes
    ``finding.json`` and a picture of each estimated trigger.

    Raises:
        ClipmendError: an option is wrong; nothing has been written then.
    """
    chosen = choose(options, is_repair=False)
    inspection, bad = _inspected(options, chosen)
    finding = inspection.report(options.seed, options.out)
    says = f"{chosen.method} ranks the pairs, and makes no finding."
    return _written(inspection, _outcome(finding, says, options.out), options, bad)


def mend(options: Options) -> Outcome:
    """Repair the model, and write it; where a method finds nothing, it stays unchanged.

    Writes ``curve.csv``, which has the loss alone, and the folder ``model`` with a model card. A
    repair that reads scores also writes the files of ``suspects``, and one with a finding
    ``chosen.parquet``. A killed call with the same options goes on at its last checkpoint.

    Raises:
        ClipmendError: an option is wrong; nothing has been written then.
        TrainingError: the repaired model is not finite; no model is written.
    """
    chosen = choose(options, is_repair=True)
    inspection, bad = _inspected(options, chosen)
    finding, epochs = inspection.mend(options.seed, options.out)
    inspection.refuse_broken(chosen.stage)
    passes = f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    says = f"{chosen.method} trained the model for {passes}, and makes no finding."
    if not epochs:  # too few suspects, or none with a word in common
        says = f"{chosen.method} had nothing to train on; the model is unchanged."
    folder = options.out / progress.MODEL
    folder.mkdir()
    inspection.assets.model.save(folder)
    outcome = replace(_outcome(finding, says, options.out), model=folder)
    card = model_card(outcome.finding, says, options, chosen, inspection)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return _written(inspection, outcome, options, bad)


def _inspected(options: Options, chosen: Chosen) -> tuple[Inspection, BadRows]:
    """Return the scores. Every option is checked before the scoring starts."""
    # Whatever can be refused is refused before the scoring, which takes minutes to hours.
    for name, value in vars(options).items():
        if undecoded(str(value)):
            raise ClipmendError(
                f"--{name} {str(value)!r} is not UTF-8 text, which model cards and sheets need; "
                "rename the file."
            )
    progress.check(options.out)
    device = device_of(options.device)
    checkpoint = find_checkpoint(options.model, options.architecture)
    own = Assets(
        model=checkpoint.load().to(device), fresh=lambda seed: checkpoint.fresh(seed).to(device)
    )
    digests: dict[str, str] = {}
    if options.early is not None:
        early = checkpoint.earlier(options.early).load().to(device)
        digests["early"] = progress.digest_of(early)
        own = replace(own, early=lambda: early)
    read = _read(options, chosen, own.model)
    digests |= {name: each.digest for name, each in read.items()}
    bad = BadRows(options.on_bad_rows)
    for each in read.values():
        bad.total += each.bad.total
        bad.found |= each.bad.found
    work = progress.begin(options.out, progress.key_of(chosen, own.model, digests, options.seed))
    pairs = {name: each.pairs(work) for name, each in read.items()}
    if "train" in pairs:
        log.info("scoring %d pairs on %s", len(pairs["train"]), device)
    train, trusted = pairs.get("train"), pairs.get("trusted")
    return inspect(own, train, trusted, chosen, work, options.seed), bad


def _read(options: Options, chosen: Chosen, model: Clip) -> dict[str, OwnPairs]:
    """Return the pairs that the methods read, by split."""
    size = model.image_size
    return {split: read_own_pairs(options, split, size=size) for split in chosen.reads}


def _outcome(finding: dict[str, Any] | None, says: str, out: Path) -> Outcome:
    if finding is None:
        return Outcome(says, None, {}, None, out)
    return Outcome(finding["says"], finding["found"], finding, None, out)


def _written(inspection: Inspection, outcome: Outcome, options: Options, bad: BadRows) -> Outcome:
    """Write the ranked pairs, their sheet and the ledger; return the outcome with the ranking."""
    bad.write(options.out)
    bad.report(str(options.pairs or options.trusted))
    pairs, columns = inspection.pairs, inspection.columns
    if pairs is not None and columns:
        # Stable, so that pairs with equal scores keep the order of the file.
        order = columns["score"].argsort(descending=True, stable=True)
        first = ("score", "suspect")
        names = [*(n for n in first if n in columns), *(n for n in columns if n not in first)]
        table: dict[str, Any] = {"id": pairs.ids, "caption": pairs.captions}
        table |= {name: columns[name].numpy() for name in names}
        ranked = pa.table(table).take(order.numpy())
        ranked = ranked.append_column("rank", pa.array(range(1, len(pairs) + 1)))
        pq.write_table(ranked, options.out / progress.SUSPECTS)
        outcome = replace(outcome, ranked=ranked)
        first_pairs = pairs.take(order[:LISTED])
        word = outcome.finding["word"] if outcome.found else ""
        note = f"The {len(first_pairs)} most suspect of {len(pairs):,} pairs in {options.pairs}"
        note += f", by the model {options.model}"
        triggers = sorted(options.out.glob("trigger-*.png"))
        sheet = draw(first_pairs, title=outcome.says, note=note, word=word, triggers=triggers)
        sheet.savefig(options.out / progress.SHEET)
    progress.end(options.out)
    return outcome
