"""What the commands ``suspects`` and ``mend`` do: read, suspect, mend, and say what was found."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from rich.console import Console
from torch import Tensor

from clipmend.data.artifacts import CURVE, OVERFITTED_MODEL
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.engine.runner import device_of
from clipmend.errors import MetricError
from clipmend.methods.interfaces import Assets, Detector, Finding, PairScores
from clipmend.methods.repairs.run import carry_out, write_finding
from clipmend.methods.repairs.ubt import UBT
from clipmend.methods.table import create
from clipmend.metrics.curve import write_curve
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks
from clipmend.tools.standalone import terminal
from clipmend.tools.standalone.checkpoint import Checkpoint, find_checkpoint
from clipmend.tools.standalone.choices import METHOD, Choices, read_choices
from clipmend.tools.standalone.reading import Names, read_own_pairs
from clipmend.tools.standalone.request import MODEL, Request, check_empty, make_folder
from clipmend.tools.standalone.sheet import SHOWN, Shown, draw_sheet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """All that was asked for, read and checked: from here on it is computed."""

    choices: Choices
    checkpoint: Checkpoint
    model: Clip
    early: Clip | None
    pairs: Pairs
    device: str


@dataclass(frozen=True)
class Found:
    """What detection says, and what would be unlearned."""

    scores: PairScores
    assets: Assets
    pairs: Pairs
    repair: UBT

    @property
    def order(self) -> Int[Tensor, " samples"]:
        """Rows of the pairs, the most suspect first."""
        return self.scores.score.argsort(descending=True, stable=True)


def suspects(request: Request, out: Path) -> None:
    """Rank the pairs by how poisoned they look.

    Writes ``suspects.parquet`` (id, caption, score, suspect, similarity_before, similarity_after,
    rank; every pair, the most suspect first), ``suspects.png`` and ``finding.json``.

    Raises:
        ClipmendError: what is asked for cannot be done; nothing has been written then.
    """
    opened = _open(request, out)
    found = _detect(opened, request.seed)
    plan = found.repair.plan(found.assets, stream(request.seed, "unlearn/choose"))
    finding = plan.finding(plan.associations(found.assets.model), after=None)
    write_finding(finding, 0.0, out)
    _tell(found, finding.summary, request, out)


def mend(request: Request, out: Path) -> None:
    """Rank the pairs, unlearn a few suspects, and write the model; unchanged if nothing is found.

    Writes what ``suspects`` does, ``chosen.parquet`` and ``curve.csv`` as the stage ``unlearn``
    does (there are no labels: the curve has the loss alone), and the folder ``model``.

    Raises:
        ClipmendError: what is asked for cannot be done; nothing has been written then.
    """
    opened = _open(request, out)
    found = _detect(opened, request.seed)
    hooks = Hooks(label="unlearning")
    generators = stream(request.seed, "unlearn/choose"), stream(request.seed, "unlearn/fit")
    points, reported = carry_out(found.repair, found.assets, generators, hooks)
    finding = cast("Finding", reported)
    make_folder(out / MODEL)
    found.assets.model.save(out / MODEL)
    write_curve(points, out / CURVE)
    write_finding(finding, points[-1].epoch, out)
    _tell(found, finding.summary, request, out)


def _open(request: Request, out: Path) -> Opened:
    """Return all that is needed, having refused whatever can be refused; then make the folder."""
    check_empty(out)
    choices = read_choices(request.settings or (), early=request.early is not None)
    device = device_of(request.device)
    checkpoint = find_checkpoint(request.model, request.architecture)
    model = checkpoint.load().to(device)
    early = None
    if request.early is not None:
        early = checkpoint.earlier(request.early).load().to(device)
    names = Names(request.id_column, request.image_column, request.caption_column)
    pairs = read_own_pairs(request.pairs, names, size=model.image_size, limit=request.limit)
    make_folder(out)
    return Opened(choices, checkpoint, model, early, pairs, device)


def _detect(opened: Opened, seed: int) -> Found:
    pairs, choices = opened.pairs, opened.choices
    detector: Detector = create("detect", METHOD, choices.detect)
    early = opened.early
    assets = Assets(
        model=opened.model.frozen_copy().prune_vocabulary(pairs.captions),
        train=lambda: pairs,
        fresh=lambda drawn: opened.checkpoint.fresh(drawn).to(opened.device),
    )
    if early is not None:
        assets = replace(assets, early=lambda: early.prune_vocabulary(pairs.captions))
    log.info("looking for suspects among %d pairs, on %s", len(pairs), opened.device)
    scores = detector(assets, stream(seed, f"detect/{METHOD}"), Hooks(label="overfitting"))
    if not torch.isfinite(scores.score).all():
        raise MetricError(
            f"{int((~scores.score.isfinite()).sum())} scores are not finite; a lower detect.lr "
            "would be the first thing to try."
        )
    suspects = scores.columns["suspect"].nonzero().squeeze(1)
    defender = Assets(
        model=opened.model,
        train=lambda: pairs,
        scores=lambda: Scores(scores.score.float(), suspects),
        detector_model=lambda _: _whole(opened.model, scores),
    )
    return Found(scores, defender, pairs, create("unlearn", METHOD, choices.unlearn))


def _whole(model: Clip, scores: PairScores) -> Clip:
    """Return the overfitted model with its whole vocabulary.

    A caption less a word may have tokens that no whole caption has: where it is longer than the
    model reads, its end moves up.
    """
    whole = model.frozen_copy()
    if OVERFITTED_MODEL in scores.models:
        whole.net.load_state_dict(scores.models[OVERFITTED_MODEL].full_state())
    return whole


def _tell(found: Found, finding: dict[str, Any], request: Request, out: Path) -> None:
    """Write the ranked pairs and the sheet, and print the finding."""
    ranked = _ranked(found)
    pq.write_table(ranked, out / "suspects.parquet")
    pairs = found.pairs
    first = pairs.take(found.order[:SHOWN])
    note = f"The {len(first)} most suspect of {len(pairs):,} pairs in {request.pairs}"
    shown = Shown(
        title=finding["says"],
        note=f"{note}, as {request.model} sees them",
        word=finding["word"] if finding["found"] else "",
        ids=first.ids,
        captions=first.captions,
        images=first.images[:],
    )
    draw_sheet(shown).save(out / "suspects.png")
    terminal.show(finding, ranked, out, Console())


def _ranked(found: Found) -> pa.Table:
    order, pairs = found.order, found.pairs
    rows = order.tolist()
    columns = {
        "id": pa.array([pairs.ids[row] for row in rows], pa.string()),
        "caption": pa.array([pairs.captions[row] for row in rows], pa.string()),
        "score": pa.array(found.scores.score.float()[order].numpy()),
    }
    for name in ("suspect", "similarity_before", "similarity_after"):
        columns[name] = pa.array(found.scores.columns[name][order].numpy())
    columns["rank"] = pa.array(range(1, len(rows) + 1), pa.int64())
    return pa.table(columns)
