"""``Results``: a finished run as the report reads it, each file at most once and only when needed.

Every file of another cell that tables, figures and claims need is read here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from clipmend.data import artifacts, input_artifacts
from clipmend.data.images import Pixels, decode
from clipmend.engine.cell import Place
from clipmend.engine.job import Input, Job
from clipmend.report import detection, files
from clipmend.report.cells import cells_table, controls_of, groups, means_table
from clipmend.report.claims.check import Tables
from clipmend.report.claims.cleanings import Cleaning, cleanings
from clipmend.report.claims.outcomes import check_claims
from clipmend.report.detection import ModelScore, ScoredPairs
from clipmend.report.estimates import Estimated, estimates_of
from clipmend.report.findings import Curve, Finding, Unlearned
from clipmend.report.input_detection import ScoredInputs, inputs_table
from clipmend.report.order import UNDEFENDED, attack_order, method_order, victim_order
from clipmend.report.scale import Scale

_CONFIDENCE, _GALLERY = 0.95, 6


@dataclass(frozen=True)
class Example:
    """A training pair before and after an attack; images are 8-bit RGB of the same size."""

    corpus: str
    attack: str
    clean: Pixels
    triggered: Pixels
    caption: str
    poisoned_caption: str


@dataclass(frozen=True)
class Results:
    """What one run measured, or what several runs of parts of one grid measured together.

    Attributes:
        inputs: the finished cells by name. Those of joined reports have no files.
        gallery: the number of pairs per attack in the gallery.
        joined: file name -> table, of joined reports.
    """

    inputs: Mapping[str, Input]
    gallery: int = _GALLERY
    joined: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A cached property that already has a value here does not compute it.
        vars(self).update({files.TABLES[file]: table for file, table in self.joined.items()})

    @classmethod
    def of_job(cls, job: Job) -> "Results":
        """Return the results that a job of the stage ``report`` reads."""
        return cls(job.inputs, int(job.shared.get("gallery", _GALLERY)))

    @classmethod
    def of_reports(cls, folders: Sequence[Path]) -> "Results":
        """Return the results in several report folders. A row that two of them have counts once.

        Raises:
            ArtifactError: a folder lacks ``cells.csv`` or ``cards.jsonl``.
        """
        names = ("cell", "stage", "method", "seed", "settings", "shared")
        cards = {
            cell: card for folder in folders for cell, card in files.read_cards(folder).items()
        }
        # The folders do not exist: a report holds the cards of other cells, but not their files.
        inputs = {
            cell: Input(folder=Path("not kept", cell), **{name: card[name] for name in names})
            for cell, card in cards.items()
        }
        return cls(inputs, joined=files.joined_tables(folders))

    def of(self, *stages: str) -> list[Input]:
        """Return the cells of the given stages."""
        return [cell for cell in self.inputs.values() if cell.stage in stages]

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """File name -> table, of all tables of numbers."""
        return {file: getattr(self, table) for file, table in files.TABLES.items()}

    @cached_property
    def confidence(self) -> float:
        """The confidence of all intervals, which those over seeds share with those of a cell."""
        # All cells of a run share one setting, so the first cell has the answer.
        for cell in self.of("evaluate"):
            return float(cell.shared.get("confidence", _CONFIDENCE))
        return _CONFIDENCE

    @cached_property
    def _metrics(self) -> list[dict[str, Any]]:
        cells = self._having("evaluate", artifacts.METRICS)
        return [files.read_json(cell, artifacts.METRICS) for cell in cells]

    @cached_property
    def definitions(self) -> dict[str, str]:
        """Metric -> its meaning, in the words of the cells that measured it."""
        stated = {k: v for one in self._metrics for k, v in one.get("definitions", {}).items()}
        return dict(sorted(stated.items()))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """``cells.csv``: a row per evaluated cell; rates are fractions.

        ``found`` says whether a repair found anything to unlearn. It is empty for repairs that do
        not search, and for the victims themselves.
        """
        found = {place: bool(finding["found"]) for place, finding in self._stated_findings.items()}
        return cells_table(self._metrics, found)

    @cached_property
    def means(self) -> pd.DataFrame:
        """``table.csv``: the means of ``cells`` over seeds."""
        return means_table(self.cells, self.confidence)

    @cached_property
    def controls(self) -> frozenset[str]:
        """The methods that are controls: they use what no defender has."""
        return controls_of(self.cells)

    @cached_property
    def attacks(self) -> pd.DataFrame:
        """``attacks.csv``: a row per trigger and seed."""
        rows = []
        for cell in self.of("poison"):
            for trigger in files.read_json(cell, artifacts.TRIGGERS)["triggers"]:
                strength = trigger["strength"] or {}
                row = {"corpus": cell.place.corpus, "attack": cell.place.attack, "seed": cell.seed}
                row |= {"trigger": trigger["name"], "n_measured": strength.get("n")}
                rows.append(trigger | strength | row)
        rows.sort(key=lambda row: (row["corpus"], attack_order(row["attack"]), row["seed"]))
        return pd.DataFrame(rows, columns=list(files.ATTACK_COLUMNS))

    @cached_property
    def attack_definitions(self) -> dict[str, str]:
        """Measure of visibility -> its meaning, in the words of the cells that took it."""
        return {
            name: meaning
            for cell in self._having("poison", artifacts.TRIGGERS)
            for name, meaning in files.read_json(cell, artifacts.TRIGGERS)["definitions"].items()
        }

    @cached_property
    def curves(self) -> list[Curve]:
        """The curve of every victim and every repair, in the order of the report."""
        curves = []
        for stage in ("pretrain", "unlearn", "baselines"):
            for cell in self._having(stage, artifacts.CURVE):
                method = UNDEFENDED if stage == "pretrain" else cell.place.method
                points = pd.read_csv(cell.folder / artifacts.CURVE)
                curves.append(Curve(cell.place.victim, method, points))
        return sorted(curves, key=lambda one: (victim_order(one.victim), method_order(one.method)))

    @cached_property
    def _stated_findings(self) -> dict[Place, dict[str, Any]]:
        # A repair that unlearns without a search, such as ABL, has no finding.
        cells = self._having("unlearn", artifacts.FINDING)
        return {cell.place: files.read_json(cell, artifacts.FINDING) for cell in cells}

    @cached_property
    def estimates(self) -> list[Estimated]:
        """The triggers that repairs estimated, beside the true ones; of controls, none."""
        found = [
            one
            for place, finding in self._stated_findings.items()
            if place.method not in self.controls
            and place.at("poison").path in self.inputs  # a report of a part may lack it
            for one in estimates_of(
                self.inputs[place.path], finding, self.inputs[place.at("poison").path]
            )
        ]
        return sorted(found, key=lambda one: (victim_order(one.victim), method_order(one.method)))

    @cached_property
    def unlearned(self) -> list[Unlearned]:
        """What every unlearning repair with a finding chose, in the order of the report."""
        repairs = []
        for place, finding in self._stated_findings.items():
            cell, control = self.inputs[place.path], place.method in self.controls
            chosen = self._with_truth(cell, artifacts.CHOSEN)
            repairs.append(
                Unlearned(place.victim, place.method, control, cell.settings, finding, chosen)
            )
        return sorted(repairs, key=lambda one: (victim_order(one.victim), method_order(one.method)))

    @cached_property
    def scored(self) -> list[ScoredPairs]:
        """The scores of every detector of pairs, in the order of the report.

        The pairs that unlearning chose by a detector are those of the first repair that reads it
        and is not a control.
        """
        scored = []
        for cell in self._having("detect", artifacts.SCORES):
            victim, method = cell.place.victim, cell.place.method
            pairs = self._with_truth(cell, artifacts.SCORES)
            repairs = [one for one in self.unlearned if one.victim == victim and not one.control]
            scored.append(ScoredPairs(victim, method, pairs, *_compared(repairs, method)))
        return sorted(scored, key=lambda one: (victim_order(one.victim), one.method))

    @cached_property
    def findings(self) -> list[Finding]:
        """What every unlearning repair chose, with the scores that it read and its curve."""
        scored = {(one.victim, one.method): one for one in self.scored}
        curves = {(one.victim, one.method): one for one in self.curves}
        return [
            Finding(
                one,
                scored[one.victim, one.detector],
                curves[one.victim, one.method],
                [e for e in self.estimates if (e.victim, e.method) == (one.victim, one.method)],
            )
            for one in self.unlearned
        ]

    @cached_property
    def detectors(self) -> pd.DataFrame:
        """``detectors.csv``: a row per victim and detector of pairs."""
        return detection.detectors_table(self.scored)

    @cached_property
    def scored_models(self) -> list[ModelScore]:
        """What every detector of whole models measured, in the order of the report."""
        scores = []
        for cell in self._having("detect", artifacts.MODEL_SCORE):
            stated, poisoned = (
                files.read_json(cell, artifacts.MODEL_SCORE),
                self._poisoned_ids(cell),
            )
            scores.append(ModelScore(cell.place.victim, cell.method, stated, len(poisoned)))
        return sorted(scores, key=lambda one: (victim_order(one.victim), one.method))

    @cached_property
    def model_scores(self) -> pd.DataFrame:
        """``model_scores.csv``: a row per victim and detector of whole models."""
        return detection.model_scores_table(self.scored_models)

    @cached_property
    def inputs_scored(self) -> pd.DataFrame:
        """``inputs.csv``: a row per victim, trigger and detector of inputs."""
        scored = [
            ScoredInputs(
                cell.place.victim,
                cell.place.method,
                files.read_frame(cell.folder / input_artifacts.INPUT_SCORES),
                float(cell.settings["false_positive_rate"]),
            )
            for cell in self._having("detect", input_artifacts.INPUT_SCORES)
        ]
        return inputs_table(sorted(scored, key=lambda one: (victim_order(one.victim), one.method)))

    @cached_property
    def cleanings(self) -> list[Cleaning]:
        """The runs of CleanCLIP, if it was run with several settings."""
        return [] if self.joined else cleanings(self.inputs)

    @cached_property
    def left_out(self) -> frozenset[str]:
        """The variants of a sweep of CleanCLIP: too many for a line each in the figures."""
        return frozenset(run.method for run in self.cleanings if "@" in run.method)

    @cached_property
    def outcomes(self) -> list[dict[str, Any]]:
        """The entries of ``claims.json``: what this run shows about each claim."""
        tables = (self.cells, self.detectors, self.cleanings, self.scales, self.confidence)
        return check_claims(Tables(*tables))

    @cached_property
    def examples(self) -> list[Example]:
        """The first poisoned pairs of each attack at its lowest seed, ``gallery`` of each.

        An attack without poisoned pairs has none, nor has a corpus without a parquet file.
        """
        # The highest seed comes first, so that the lowest replaces it.
        seeds = sorted(self._poisoned, key=lambda place: place.seed or 0, reverse=True)
        first = {(place.corpus, place.attack): self._overlay(place) for place in seeds}
        examples = []
        for corpus, attack in sorted(first, key=lambda key: (key[0], attack_order(key[1]))):
            train = self.inputs[f"download/{corpus}"].folder / artifacts.TRAIN
            poisoned = pq.read_table(
                first[corpus, attack], use_threads=False, filters=[("is_poisoned", "=", True)]
            )
            rows = poisoned.slice(0, self.gallery).to_pylist()
            if rows and train.is_file():
                clean = files.read_pairs_by_id(train, [row["id"] for row in rows])
                examples += [_example(corpus, attack, clean[r["id"]]["image"], r) for r in rows]
        return examples

    def pairs(self, victim: Place, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the training pairs of a victim by id: image bytes and caption, as it saw them."""
        train = self.inputs[f"download/{victim.corpus}"].folder / artifacts.TRAIN
        clean = files.read_pairs_by_id(train, ids) if train.is_file() else {}
        # The overlay comes second: its rows replace the clean ones, as they do in training.
        return clean | files.read_pairs_by_id(self._overlay(victim), ids)

    @cached_property
    def scales(self) -> dict[str, Scale]:
        """Corpus -> the scale at which it was tested."""
        # Reversed, so that the first cell of a corpus decides.
        trained = {cell.place.corpus: cell.shared for cell in reversed(self.of("pretrain"))}
        corpora = {cell.place.corpus: cell for cell in self.of("download")}
        return {
            corpus: Scale(
                train_pairs=self._pairs_of(cell, "train", artifacts.TRAIN),
                trusted_pairs=self._pairs_of(cell, "trusted", artifacts.TRUSTED),
                poisoned_pairs=self._poison_counts(corpus),
                image_size=cell.settings.get("image_size"),
                model=trained.get(corpus, {}).get("model"),
                pretrained=trained.get(corpus, {}).get("pretrained"),
            )
            for corpus, cell in sorted(corpora.items())
        }

    def _pairs_of(self, cell: Input, split: str, file: str) -> int | None:
        """Return the pairs of a split: those in its file, or else those that were asked for."""
        path = cell.folder / file
        if path.is_file():
            return int(pq.read_metadata(path).num_rows)
        asked = cell.settings.get(split)
        if isinstance(asked, int) or split != "train":
            return asked if isinstance(asked, int) else None
        scored = self.detectors.loc[self.detectors["corpus"] == cell.place.corpus, "n_pairs"]
        return int(scored.max()) if len(scored) else None

    def _poison_counts(self, corpus: str) -> dict[str, int]:
        rows = [(place.corpus, place.attack, len(ids)) for place, ids in self._poisoned.items()]
        known = pd.DataFrame(rows, columns=["corpus", "attack", "n_poisoned"])
        # Joined reports have no overlays, but every detector counted the poisoned pairs.
        known = self.detectors if self.joined else known
        own = groups(known[known["corpus"] == corpus], "attack")
        return {attack: int(rows["n_poisoned"].max()) for (attack,), rows in own}

    def _having(self, stage: str, file: str) -> list[Input]:
        """Return the cells of a stage that have this file."""
        return [cell for cell in self.of(stage) if (cell.folder / file).is_file()]

    def _overlay(self, place: Place) -> Path:
        return self.inputs[place.at("poison").path].folder / artifacts.OVERLAY

    @cached_property
    def _poisoned(self) -> dict[Place, list[str]]:
        """Cell of ``poison`` -> the ids of its poisoned pairs, which no defender sees."""
        poisoned = {}
        for cell in self._having("poison", artifacts.OVERLAY):
            changed = files.read_frame(cell.folder / artifacts.OVERLAY, "id", "is_poisoned")
            poisoned[cell.place] = list(changed.loc[changed["is_poisoned"], "id"])
        return poisoned

    def _poisoned_ids(self, cell: Input) -> list[str]:
        return self._poisoned[cell.place.at("poison")]

    def _with_truth(self, cell: Input, file: str) -> pd.DataFrame:
        """Return a table of training pairs with the column ``is_poisoned``."""
        pairs = files.read_frame(cell.folder / file)
        pairs["is_poisoned"] = pairs["id"].isin(self._poisoned_ids(cell))
        return pairs


def _compared(repairs: Sequence[Unlearned], detector: str) -> tuple[int | None, float | None]:
    """Return how many of a detector's pairs are compared, and the precision of the chosen ones."""
    reading = [one for one in repairs if one.detector == detector]
    if reading and len(reading[0].chosen):
        return len(reading[0].chosen), reading[0].precision
    # No repair chose pairs by these scores: compare as many as a repair would ask for at most.
    asked = next((one.settings.get("pairs") for one in reading or repairs), None)
    return None if asked is None else int(asked), None


def _example(corpus: str, attack: str, clean: bytes, row: Mapping[str, Any]) -> Example:
    triggered = Image.open(BytesIO(row["image"])).convert("RGB")
    # A corpus may keep photographs at full size; the attack saw them cropped, as training does.
    cropped = decode(clean, triggered.width)
    captions = row["original_caption"], row["caption"]
    return Example(corpus, attack, np.asarray(cropped), np.asarray(triggered), *captions)
