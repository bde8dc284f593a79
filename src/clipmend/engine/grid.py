"""The grid that the parameters span: every cell, what it reads, and its key."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clipmend.engine import contradictions, fingerprint, limits, models, schema
from clipmend.engine.cards import key
from clipmend.engine.cell import NO_REPAIR, UNPOISONED, Cell, Place
from clipmend.engine.index import Index
from clipmend.engine.params import Params
from clipmend.errors import ModelError, PairsError, ParamsError, suggestion
from clipmend.methods import table
from clipmend.methods.settings import ModelConfig, OutsideFile

PACKAGED = "clipmend:"  # prefix of package data, so that no path of one machine is in a key
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

_CONFIG = "a model config (.json)"


def cells(params: Params, index: Index) -> dict[str, Cell]:
    """Return every cell of the grid with its key, in stage order.

    Raises:
        ClipmendError: a file or a name in the parameters does not exist, or settings can never
            work.
    """
    contradictions.refuse(params)
    limits.limits(params)
    models.refuse(params)
    grid = _Grid(params, index)
    done: dict[str, Cell] = {}  # cells whose inputs have keys: a key contains those of its inputs
    for cell in grid.walk():
        done[cell.name] = _keyed(cell, done)
    report = grid.report(tuple(done))
    return done | {report.name: _keyed(report, done)}


def _keyed(cell: Cell, done: Mapping[str, Cell]) -> Cell:
    keys = {role: done[name].key for role, name in cell.inputs.items()}
    return replace(cell, key=key(cell.ingredients(), keys))


def outside(name: str) -> Path:
    """Return the path of a file outside ``results/`` that a cell reads."""
    if name.startswith(PACKAGED):
        return fingerprint.PACKAGE / name.removeprefix(PACKAGED)
    return Path(name)


def _paths(**places: Place) -> dict[str, str]:
    return {role: place.path for role, place in places.items()}


def _defender(victim: Place) -> dict[str, str]:
    """Return the cells that everything about a victim reads."""
    return _paths(corpus=victim.at("download"), poison=victim.at("poison"), victim=victim)


@dataclass(frozen=True)
class _Grid:
    """Spans corpora, attacks, objectives, seeds, detectors and repairs, stage after stage."""

    params: Params
    index: Index

    def walk(self) -> Iterator[Cell]:
        """Yield every cell but the report, without its key, a cell after those that it reads."""
        yield from self._download()
        yield from self._poison()
        yield from self._pretrain()
        yield from self._detect()
        yield from self._repairs("unlearn")
        yield from self._repairs("baselines")
        yield from self._evaluate()

    @cached_property
    def _victims(self) -> list[Place]:
        return [
            Place("pretrain", corpus, attack, objective, seed)
            for corpus in self.params.download.corpora
            for attack in self.params.poison.methods
            for objective in self._objectives(attack)
            for seed in self.params.seeds
        ]

    @cached_property
    def _repaired(self) -> dict[Place, None]:
        repaired = self.params.pretrain.methods
        return {victim: None for victim in self._victims if victim.objective in repaired}

    def _objectives(self, attack: str) -> tuple[str, ...]:
        repaired, others = self.params.pretrain.methods, self.params.pretrain.unrepaired
        is_tried = attack in (others.attacks or (attack,))
        return (*repaired, *others.methods) if is_tried else repaired

    def _download(self) -> Iterator[Cell]:
        for corpus in self.params.download.corpora:
            yield self._cell(Place("download", corpus), corpus, {})

    def _poison(self) -> Iterator[Cell]:
        # Victims of several objectives share their poison.
        for place in dict.fromkeys(victim.at("poison") for victim in self._victims):
            yield self._cell(place, place.attack, _paths(corpus=place.at("download")))

    def _pretrain(self) -> Iterator[Cell]:
        # Victims that continue others come last: a cell follows those that it reads.
        for victim in sorted(self._victims, key=lambda victim: bool(self._start(victim.objective))):
            inputs = _paths(corpus=victim.at("download"), poison=victim.at("poison"))
            yield self._cell(victim, victim.objective, inputs | self._started(victim))

    def _start(self, objective: str) -> str | None:
        """Return the objective whose unpoisoned victim this objective continues, if any."""
        start: str | None = self._edge("pretrain", objective, "pretrain")
        return start

    def _started(self, victim: Place) -> dict[str, str]:
        start = self._start(victim.objective)
        if start is None:
            return {}
        clean = replace(victim, attack=UNPOISONED, objective=start)
        if clean not in self._victims or self._start(start) is not None:
            raise ParamsError(
                f"pretrain method {victim.objective!r} starts from {start!r} trained on "
                f"`{UNPOISONED}`, which is not in this grid: name `{UNPOISONED}` in "
                f"poison.methods, and in pretrain.methods {start!r}, which must itself start from "
                "nothing."
            )
        return _paths(start=clean)

    def _detect(self) -> Iterator[Cell]:
        for victim in self._repaired:
            for name in self.params.detect.methods:
                yield self._cell(victim.at("detect", method=name), name, _defender(victim))

    def _repairs(self, stage: str) -> Iterator[Cell]:
        for victim in self._repaired:
            for name in self._methods(stage):
                inputs = _defender(victim) | self._detector(stage, name, victim)
                yield self._cell(victim.at(stage, method=name), name, inputs)

    def _detector(self, stage: str, name: str, victim: Place) -> dict[str, str]:
        """Return the detector whose scores a repair reads, if it reads any."""
        detector = self._edge(stage, name, "detect")
        if detector is None:
            return {}
        known = self.params.detect.methods
        if detector not in known:
            raise ParamsError(
                f"{stage} method {name!r} reads the scores of detector {detector!r}, which "
                f"detect.methods does not name. {suggestion(detector, known)}"
            )
        scored = table.scores_of(detector)
        if scored != "pairs":
            what = "the model as a whole" if scored == "model" else "inputs at test time"
            scoring = ", ".join(other for other in known if table.scores_of(other) == "pairs")
            raise ParamsError(
                f"{stage} method {name!r} reads the scores of detector {detector!r}, which scores "
                f"{what}; detectors that score pairs: {scoring or 'none'}."
            )
        return _paths(detector=victim.at("detect", method=detector))

    def _evaluate(self) -> Iterator[Cell]:
        for victim in self._victims:
            triggers = self._triggers(victim.attack)
            clean = self._clean(victim)
            for repair, model in self._models(victim).items():
                for trigger, attack in triggers.items():
                    inputs = _paths(
                        corpus=victim.at("download"),
                        model=model,
                        trigger=victim.at("poison", attack=attack),
                    )
                    place = victim.at("evaluate", method=repair, trigger=trigger)
                    yield self._cell(place, "", inputs | clean)

    def _clean(self, victim: Place) -> dict[str, str]:
        """Return the unpoisoned victim with which a poisoned one swaps towers, if any does."""
        clean = replace(victim, attack=UNPOISONED)
        if "tower_swap" not in self.params.evaluate.further or victim == clean:
            return {}
        if clean not in self._victims:
            raise ParamsError(
                f"evaluate.further names 'tower_swap', which needs the `{UNPOISONED}` victims of "
                f"{victim.objective!r}; name `{UNPOISONED}` in poison.methods, and leave "
                "pretrain.unrepaired.attacks empty or name it there too."
            )
        return _paths(clean=clean)

    def _models(self, victim: Place) -> dict[str, Place]:
        """Return the cells of a victim and of its repaired models, by repair."""
        repairs = {
            name: victim.at(stage, method=name)
            for stage in ("unlearn", "baselines")
            for name in self._methods(stage)
        }
        return {NO_REPAIR: victim, **(repairs if victim in self._repaired else {})}

    def _triggers(self, attack: str) -> dict[str, str]:
        """Return the triggers under which a victim is evaluated, each with its attack.

        An unpoisoned victim is evaluated under the triggers of all attacks. An attack with several
        triggers has one of each of the attacks that it combines.
        """
        attacks = self.params.poison.methods if table.base(attack) == UNPOISONED else (attack,)
        return {
            f"{name}.{part}" if part else name: name
            for name in attacks
            if table.base(name) != UNPOISONED
            for part in self._edge("poison", name, "poison") or ("",)
        }

    def _edge(self, stage: str, name: str, to: str) -> Any:
        """Return the value of the setting that names a method of the stage ``to``, or None."""
        return schema.edge(self.params.resolve(stage, name), to)

    def report(self, names: tuple[str, ...]) -> Cell:
        """Return the cell that reads all others, each in the role of its own name."""
        return self._cell(Place("report"), "", {name: name for name in names})

    def _methods(self, stage: str) -> tuple[str, ...]:
        names: tuple[str, ...] = getattr(self.params.section(stage), "methods", ())
        return names

    def _cell(self, place: Place, name: str, inputs: Mapping[str, str]) -> Cell:
        # Resolved once per method: thousands of cells share settings and digests.
        ingredients = self._ingredients.setdefault((place.stage, name), {})
        if not ingredients:
            ingredients.update(self._resolved(place.stage, name))
        return Cell(name=place.path, seed=place.seed, inputs=inputs, **ingredients)

    @cached_property
    def _ingredients(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The parts of a key that all cells of a stage and method share."""
        return {}

    def _resolved(self, stage: str, name: str) -> dict[str, Any]:
        arithmetic = self.params.arithmetic
        shared = {**self.params.section(stage).shared(), "arithmetic": arithmetic}
        # It decides the bytes of every stage, also of those that do not import it.
        modules = [*table.modules(stage, name, shared), "clipmend.model.arithmetic"]
        settings: dict[str, Any] = {}
        files: dict[str, str] = {}
        line: dict[str, str] = {}
        if name:
            source = self.params.source(stage, name)
            module, cls = table.reference(stage, source)
            modules.append(module)
            line = {fingerprint.TABLE: fingerprint.line(module, cls)}
            model = self.params.resolve(stage, name)
            settings = model.model_dump(mode="json")
            files = self._method_files(f"{stage}.settings.{name}", model)
            name = source
        if stage == "pretrain":
            files |= self._model_files()
        return {
            "stage": stage,
            "method": name,
            "settings": settings,
            "shared": shared,
            "code": fingerprint.digests(*modules) | line,
            "files": files,
        }

    def _method_files(self, place: str, model: BaseModel) -> dict[str, str]:
        """Return the digests of the user's files and folders that a method's settings name."""
        files = {}
        for setting, path in schema.marked(model, OutsideFile).items():
            if self.index.reads and not Path(path).exists():
                raise PairsError(
                    f"{place}.{setting} is {path!r}, which does not exist; "
                    "give a file or folder, relative to the project's folder."
                )
            files[path] = self.index.tree(Path(path))
        for setting, name in schema.marked(model, ModelConfig).items():
            if name.endswith(".json"):
                files[name] = self._model_file(f"{place}.{setting}", name, _CONFIG)
        return files

    def _model_files(self) -> dict[str, str]:
        """Return the digests of the model config and of the initial weights, if they are files."""
        model, pretrained = self.params.pretrain.model, self.params.pretrain.pretrained
        packaged = f"{PACKAGED}{models.CONFIGS}/{model}.json"
        files = {}
        if model.endswith(".json"):
            files[model] = self._model_file("pretrain.model", model, _CONFIG)
        elif outside(packaged).is_file():
            files[packaged] = self.index.sha256(outside(packaged))
        if pretrained is not None and ("/" in pretrained or pretrained.endswith(WEIGHTS)):
            files[pretrained] = self._model_file("pretrain.pretrained", pretrained, "a checkpoint")
        return files

    def _model_file(self, place: str, path: str, what: str) -> str:
        if self.index.reads and not Path(path).is_file():
            raise ModelError(
                f"{place} is {path!r}, which does not exist; give {what}, relative to "
                "the project's folder, or a name that open_clip knows."
            )
        return self.index.sha256(Path(path))
