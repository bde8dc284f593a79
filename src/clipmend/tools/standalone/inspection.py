"""A detector and a repair on the models and pairs of a user: all calls of their methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from jaxtyping import Shaped
from torch import Tensor

from clipmend.data.artifacts import CURVE, OVERFITTED_MODEL
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.errors import MetricError
from clipmend.methods.interfaces import Assets, Detector, Finding
from clipmend.methods.repairs.run import carry_out, write_finding
from clipmend.methods.repairs.see_through import SeeThrough
from clipmend.methods.repairs.ubt import UBT
from clipmend.methods.table import create
from clipmend.metrics.curve import write_curve
from clipmend.metrics.scores import Scores, grouped
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks
from clipmend.tools.standalone.settings import DETECTORS


@dataclass(frozen=True)
class Inspection:
    """The scores of the pairs, and the repair that would use them.

    Attributes:
        pairs: all pairs; row i of each column is the same pair.
        columns: ``score``, where higher is more suspect, and the further columns of the detector.
        assets: of the repair; it changes the model in place.
    """

    pairs: Pairs
    columns: Mapping[str, Shaped[Tensor, " samples"]]
    assets: Assets
    repair: UBT | SeeThrough

    def report(self, seed: int, out: Path) -> dict[str, Any]:
        """Write ``finding.json`` without a repair, and return its content."""
        plan = self.repair.plan(self.assets, stream(seed, "unlearn/choose"))
        finding = plan.finding(plan.associations(self.assets.model), after=None)
        write_finding(finding, 0.0, out)
        return finding.summary

    def mend(self, seed: int, out: Path) -> dict[str, Any]:
        """Repair the victim; write ``finding.json``, ``chosen.parquet`` and ``curve.csv``.

        Changes the victim in place, and returns the content of ``finding.json``.
        """
        # The purposes of the stage, so that both make the same bytes from the same pairs.
        generators = stream(seed, "unlearn/choose"), stream(seed, "unlearn/fit")
        points, reported = carry_out(self.repair, self.assets, generators, Hooks(label="repairing"))
        finding = cast("Finding", reported)
        write_curve(points, out / CURVE)
        write_finding(finding, points[-1].epoch, out)
        return finding.summary


def inspect(
    own: Assets, pairs: Pairs, method: str, settings: Mapping[str, dict[str, Any]], seed: int
) -> Inspection:
    """Score the pairs with the settings of each stage.

    Args:
        own: the models of the user: the one to inspect, an early and an untrained one.
        method: the repair.

    Raises:
        MetricError: a score is not finite.
    """
    name = DETECTORS[method]
    detector: Detector = create("detect", name, settings["detect"])
    # A copy, since UBT overfits its model; with the words of the captions only, for speed.
    assets = replace(
        own,
        model=own.model.frozen_copy().prune_vocabulary(pairs.captions),
        train=lambda: pairs,
        early=lambda: own.early().prune_vocabulary(pairs.captions),
    )
    scores = detector(assets, stream(seed, f"detect/{name}"), Hooks(label="scoring"))
    broken = int((~scores.score.isfinite()).sum())
    if broken:
        raise MetricError(f"{broken} scores are not finite; try a lower detect.lr first.")

    def overfitted(_: str) -> Clip:
        # With the full vocabulary. If a caption is longer than the context, removing a word moves
        # its end up, and with it tokens that no full caption has.
        model = own.model.frozen_copy()
        if OVERFITTED_MODEL in scores.models:
            model.net.load_state_dict(scores.models[OVERFITTED_MODEL].full_state())
        return model

    columns = {"score": scores.score.float(), **scores.columns}
    suspects = columns["suspect"].nonzero().squeeze(1)
    groups = grouped(columns["group"]) if "group" in columns else ()
    defender = Assets(
        model=own.model,
        train=lambda: pairs,
        scores=lambda: Scores(columns["score"], suspects, groups),
        detector_model=overfitted,
    )
    return Inspection(pairs, columns, defender, create("unlearn", method, settings["unlearn"]))
