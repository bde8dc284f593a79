"""A detector and a repair on the models and pairs of a user: all calls of their methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from clipmend.data.artifacts import CURVE
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.errors import MetricError, TrainingError
from clipmend.methods.interfaces import Assets, Detector, Repair
from clipmend.methods.repairs.run import carry_out, write_finding
from clipmend.methods.repairs.see_through import SeeThrough
from clipmend.methods.repairs.ubt import UBT
from clipmend.methods.table import create
from clipmend.metrics.curve import write_curve
from clipmend.metrics.scores import Scores, grouped
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Hooks
from clipmend.tools.standalone.settings import Chosen

_TRIED = 8  # pairs that a repaired model must embed
_OTHER_PURPOSES = ("baselines/views", "baselines/fit")


@dataclass(frozen=True, eq=False)
class Inspection:
    """What the user has and the scores of the pairs, ready for the repair.

    Attributes:
        assets: of the repair; it changes the model in place.
        pairs: the training pairs; row i of each column is the same pair. None: not read.
        trusted: the trusted pairs. None: not read.
        columns: ``score``, where higher is more suspect, and the further columns of the detector;
            empty without a detector.
        work: a folder for checkpoints.
    """

    assets: Assets
    repair: Repair
    pairs: Pairs | None
    trusted: Pairs | None
    columns: Mapping[str, Shaped[Tensor, " samples"]]
    work: Path

    def report(self, seed: int, out: Path) -> dict[str, Any] | None:
        """Write ``finding.json`` without a repair, and return its content; None: there is none."""
        if not isinstance(self.repair, UBT | SeeThrough):
            return None
        plan = self.repair.plan(self.assets, stream(seed, "unlearn/choose"))
        finding = plan.finding(plan.associations(self.assets.model), after=None)
        write_finding(finding, 0.0, out)
        return finding.summary

    def mend(self, seed: int, out: Path) -> tuple[dict[str, Any] | None, float]:
        """Repair the model in place; return the content of ``finding.json``, and the epochs.

        Writes ``curve.csv`` and, of a repair with a finding, ``finding.json`` and
        ``chosen.parquet``.
        """
        # The purposes of the stages, so that both make the same bytes from the same pairs.
        is_own = isinstance(self.repair, UBT | SeeThrough)
        outside, inside = ("unlearn/choose", "unlearn/fit") if is_own else _OTHER_PURPOSES
        generators = stream(seed, outside), stream(seed, inside)
        hooks = Hooks(work=self.work, label="repairing")
        points, finding = carry_out(self.repair, self.assets, generators, hooks)
        write_curve(points, out / CURVE)
        if finding is not None:
            write_finding(finding, points[-1].epoch, out)
        return None if finding is None else finding.summary, points[-1].epoch

    def refuse_broken(self, stage: str) -> None:
        """Refuse a repaired model that its last steps made useless: a loss is older than its step.

        Args:
            stage: the stage whose settings the repair has.

        Raises:
            TrainingError: weights or embeddings are not finite.
        """
        model, pairs = self.assets.model, self.pairs or self.trusted
        values = [value for value in model.state_dict().values() if value.is_floating_point()]
        if pairs is not None:
            values.append(embed_images(model, pairs.images[:_TRIED]))
            values.append(embed_texts(model, model.tokenize(pairs.captions[:_TRIED])))
        if not all(value.isfinite().all() for value in values):
            raise TrainingError(
                "The repaired model gives numbers that are not finite, so it was not written; try "
                f"a lower learning rate first, such as --set {stage}.lr=1e-5."
            )


def inspect(
    own: Assets, pairs: Pairs | None, trusted: Pairs | None, chosen: Chosen, work: Path, seed: int
) -> Inspection:
    """Score the pairs, if the repair reads scores, and prepare the repair.

    Args:
        own: the models of the user: the one to inspect, an early and an untrained one.
        work: a folder for checkpoints.

    Raises:
        MetricError: a score is not finite.
    """
    folders = {name: work / name for name in ("scoring", "repairing")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    repair: Repair = create(chosen.stage, chosen.method, chosen.settings[chosen.stage])
    columns: dict[str, Tensor] = {}
    models: dict[str, Clip] = {}
    if trusted is not None:
        own = replace(own, trusted=lambda: trusted)
    if pairs is not None:
        own = replace(own, train=lambda: pairs)
    if chosen.detector is not None and pairs is not None:
        settings = chosen.settings["detect"]
        columns, models = _scores(own, pairs, chosen.detector, settings, folders["scoring"], seed)
    assets = _ready(own, repair, pairs, trusted, models)
    if columns:
        assets = replace(assets, scores=lambda: _as_read(columns))
    return Inspection(assets, repair, pairs, trusted, columns, folders["repairing"])


def _scores(
    own: Assets, pairs: Pairs, name: str, settings: Mapping[str, Any], work: Path, seed: int
) -> tuple[dict[str, Tensor], dict[str, Clip]]:
    """Return the columns of a detector, and the models that it would save."""
    detector: Detector = create("detect", name, settings)
    # A copy, since some overfit their model; with the words of the captions only, for speed.
    assets = replace(
        own,
        model=own.model.frozen_copy().prune_vocabulary(pairs.captions),
        early=lambda: own.early().prune_vocabulary(pairs.captions),
    )
    scores = detector(assets, stream(seed, f"detect/{name}"), Hooks(work=work, label="scoring"))
    broken = int((~scores.score.isfinite()).sum())
    if broken:
        raise MetricError(f"{broken} scores are not finite; try a lower detect.lr first.")
    return {"score": scores.score.float(), **scores.columns}, scores.models


def _ready(
    own: Assets,
    repair: Repair,
    pairs: Pairs | None,
    trusted: Pairs | None,
    models: Mapping[str, Clip],
) -> Assets:
    """Return the assets with one vocabulary for all models, as the stage has them."""
    texts = repair.texts()
    if texts is not None:
        captions = [*(pairs.captions if pairs else ()), *(trusted.captions if trusted else ())]
        texts = tuple(sorted({*texts, *captions}))

    def pruned(model: Clip) -> Clip:
        return model if texts is None else model.prune_vocabulary(texts)

    saved = {}
    for name, model in models.items():
        # Through the full vocabulary. If a caption is longer than the context, removing a word
        # moves its end up, and with it tokens that no full caption has.
        whole = own.model.frozen_copy()
        whole.net.load_state_dict(model.full_state())
        saved[name] = pruned(whole)
    return replace(
        own,
        model=pruned(own.model),
        fresh=lambda seed: pruned(own.fresh(seed)),
        detector_model=saved.get,
    )


def _as_read(columns: Mapping[str, Tensor]) -> Scores:
    """Return the scores as ``read_scores`` reads them from the file of a detector."""
    score = columns["score"]
    if "suspect" not in columns:
        return Scores(score, torch.arange(len(score)))
    suspects = columns["suspect"].nonzero().squeeze(1)
    groups = grouped(columns["group"]) if "group" in columns else ()
    return Scores(score, suspects, groups)
