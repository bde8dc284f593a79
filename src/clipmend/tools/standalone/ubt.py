"""UBT (Unlearning Backdoor Threats) on the models and pairs of a user: all calls of its methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.errors import MetricError
from clipmend.methods.detectors.detector import OVERFITTED, Detector, Suspicion, Victim
from clipmend.methods.repairs.finding import associations, finding_of
from clipmend.methods.repairs.mending import carry_out, write_finding
from clipmend.methods.repairs.unlearner import Evidence, Unlearner, Unlearning
from clipmend.methods.table import create
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks
from clipmend.tools.standalone.settings import METHOD


@dataclass(frozen=True)
class Models:
    """The models of a user.

    Attributes:
        victim: the model to inspect; `mend` changes it in place.
        early: the same model early in its training, if the user has it.
        fresh: builds an untrained model of the same architecture from a seed.
    """

    victim: Clip
    early: Clip | None
    fresh: Callable[[int], Clip]


@dataclass(frozen=True)
class Inspection:
    """The scores of the pairs, and the plan to unlearn some of them.

    Attributes:
        pairs: all pairs; row i of each tensor below is the same pair.
        score: higher is more suspect.
        columns: the further columns of the detector.
    """

    pairs: Pairs
    score: Float[Tensor, " samples"]
    columns: Mapping[str, Shaped[Tensor, " samples"]]
    evidence: Evidence
    plan: Unlearning

    def report(self, out: Path) -> dict[str, Any]:
        """Write ``finding.json`` without unlearning, and return its content."""
        before = associations(self.evidence.victim, self.pairs, self.plan)
        finding = finding_of(self.evidence, self.plan, before, after=None) | {"epochs": 0.0}
        write_finding(finding, out)
        return finding

    def unlearn(self, seed: int, out: Path) -> dict[str, Any]:
        """Unlearn the chosen pairs; write ``finding.json``, ``chosen.parquet``, ``curve.csv``.

        Changes the victim in place, and returns the content of ``finding.json``.
        """
        generator = stream(seed, "unlearn/fit")
        mended = carry_out(self.plan, self.evidence, generator, Hooks(label="unlearning"))
        mended.write(out)
        return mended.finding


def inspect(
    models: Models, pairs: Pairs, settings: Mapping[str, dict[str, Any]], seed: int
) -> Inspection:
    """Score the pairs and choose the ones to unlearn.

    Args:
        settings: of each stage.

    Raises:
        MetricError: a score is not finite.
    """
    detector: Detector = create("detect", METHOD, settings["detect"])
    early = models.early
    suspicion = detector(
        Victim(
            model=models.victim.frozen_copy().prune_vocabulary(pairs.captions),
            early=None if early is None else early.prune_vocabulary(pairs.captions),
            fresh=models.fresh,
        ),
        pairs,
        stream(seed, f"detect/{METHOD}"),
        Hooks(label="overfitting"),
    )
    broken = int((~suspicion.score.isfinite()).sum())
    if broken:
        raise MetricError(f"{broken} scores are not finite; try a lower detect.lr first.")
    evidence = Evidence(
        victim=models.victim,
        overfitted=_with_all_words(models.victim, suspicion),
        train=pairs,
        score=suspicion.score.float(),
        suspects=suspicion.columns["suspect"].nonzero().squeeze(1),
    )
    unlearner: Unlearner = create("unlearn", METHOD, settings["unlearn"])
    plan = unlearner.plan(evidence, stream(seed, "unlearn/choose"))
    return Inspection(pairs, evidence.score, suspicion.columns, evidence, plan)


def _with_all_words(model: Clip, suspicion: Suspicion) -> Clip:
    """Return the overfitted model with the full vocabulary."""
    # A caption without one of its words can have tokens that no full caption has: the end of a
    # caption that is longer than the context moves up.
    full = model.frozen_copy()
    if OVERFITTED in suspicion.models:
        full.net.load_state_dict(suspicion.models[OVERFITTED].full_state())
    return full
