"""The grid that the parameters span: every cell, what it reads, and its key."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clipmend.engine import fingerprint, schema
from clipmend.engine.cards import canonical
from clipmend.engine.cell import INGREDIENTS, UNPOISONED, Cell
from clipmend.engine.index import Index
from clipmend.engine.params import Params
from clipmend.errors import ModelError, PairsError, ParamsError, suggestion
from clipmend.methods import table
from clipmend.methods.settings import ModelConfig, OutsideFile

PACKAGED = "clipmend:"  # marks a file that ships with the package: no path of one machine in a key
CONFIGS = "model/configs"
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

_CONFIG = "a model config (.json)"


def key(ingredients: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the key of a cell from its ingredients and its inputs' keys by role.

    The cell's name is among them: names stand inside some outputs, and no two cells share a key.
    """
    made = {name: ingredients[name] for name in INGREDIENTS} | {"inputs": dict(inputs)}
    return hashlib.sha256(canonical(made).encode()).hexdigest()


def cells(params: Params, index: Index) -> dict[str, Cell]:
    """Return every cell of the grid with its key, in stage order.

    Raises:
        ClipmendError: a file or a name in the parameters does not exist.
    """
    grid = _Grid(params, index)
    done: dict[str, Cell] = {}
    for cell in grid.walk():
        done[cell.name] = _keyed(cell, done)
    report = grid.report(tuple(done))
    return done | {report.name: _keyed(report, done)}


def _keyed(cell: Cell, done: Mapping[str, Cell]) -> Cell:
    keys = {role: done[name].key for role, name in cell.inputs.items()}
    return replace(cell, key=key(cell.ingredients(), keys))


def scores_model(detector: str) -> bool:
    """Return whether a detector scores the model as a whole, instead of each training pair.

    Raises:
        UnknownNameError: the table has no such detector.
    """
    return table.method("detect", detector).scores == "model"


def outside(name: str) -> Path:
    """Return where a file lies that a cell reads outside ``results/``."""
    if name.startswith(PACKAGED):
        return fingerprint.PACKAGE / name.removeprefix(PACKAGED)
    return Path(name)


@dataclass(frozen=True)
class _Victim:
    corpus: str
    attack: str
    objective: str
    seed: int
    is_repaired: bool

    @property
    def path(self) -> str:
        return f"{self.corpus}/{self.attack}/{self.objective}/seed{self.seed}"

    @property
    def poison(self) -> str:
        return f"poison/{self.corpus}/{self.attack}/seed{self.seed}"

    def inputs(self) -> dict[str, str]:
        """Return what every stage that starts from the victim reads."""
        corpus = f"download/{self.corpus}"
        return {"corpus": corpus, "poison": self.poison, "victim": f"pretrain/{self.path}"}


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
    def _victims(self) -> list[_Victim]:
        repaired = set(self.params.pretrain.methods)
        return [
            _Victim(corpus, attack, objective, seed, objective in repaired)
            for corpus in self.params.download.corpora
            for attack in self.params.poison.methods
            for objective in self._objectives(attack)
            for seed in self.params.seeds
        ]

    @cached_property
    def _repaired(self) -> list[_Victim]:
        return [victim for victim in self._victims if victim.is_repaired]

    def _objectives(self, attack: str) -> tuple[str, ...]:
        repaired, others = self.params.pretrain.methods, self.params.pretrain.unrepaired
        is_tried = attack in (others.attacks or (attack,))
        return (*repaired, *others.methods) if is_tried else repaired

    def _download(self) -> Iterator[Cell]:
        for corpus in self.params.download.corpora:
            yield self._cell("download", corpus, corpus, None, {})

    def _poison(self) -> Iterator[Cell]:
        for poison in dict.fromkeys((v.corpus, v.attack, v.seed) for v in self._victims):
            corpus, attack, seed = poison
            path = f"{corpus}/{attack}/seed{seed}"
            yield self._cell("poison", path, attack, seed, {"corpus": f"download/{corpus}"})

    def _pretrain(self) -> Iterator[Cell]:
        for victim in sorted(self._victims, key=lambda one: self._start(one.objective) is not None):
            inputs = victim.inputs() | self._started(victim)
            del inputs["victim"]
            yield self._cell("pretrain", victim.path, victim.objective, victim.seed, inputs)

    def _start(self, objective: str) -> str | None:
        """Return the objective whose unpoisoned victim another one goes on from."""
        return getattr(self.params.resolve("pretrain", objective), "start", None)

    def _started(self, victim: _Victim) -> dict[str, str]:
        start = self._start(victim.objective)
        if start is None:
            return {}
        clean = replace(victim, attack=UNPOISONED, objective=start)
        from_nothing = {one.path for one in self._victims if self._start(one.objective) is None}
        if clean.path not in from_nothing:
            raise ParamsError(
                f"pretrain method {victim.objective!r} starts from {start!r} trained on "
                f"`{UNPOISONED}`, which is not in this grid: name `{UNPOISONED}` in "
                f"poison.methods, and in pretrain.methods {start!r}, which must itself start from "
                "nothing."
            )
        return {"start": f"pretrain/{clean.path}"}

    def _detect(self) -> Iterator[Cell]:
        for victim in self._repaired:
            for name in self.params.detect.methods:
                path = f"{victim.path}/{name}"
                yield self._cell("detect", path, name, victim.seed, victim.inputs())

    def _repairs(self, stage: str) -> Iterator[Cell]:
        for victim in self._repaired:
            for name in self._methods(stage):
                inputs = victim.inputs() | self._detector(stage, name, victim)
                yield self._cell(stage, f"{victim.path}/{name}", name, victim.seed, inputs)

    def _detector(self, stage: str, name: str, victim: _Victim) -> dict[str, str]:
        """Return the detector whose scores a repair reads, if it has a setting of that name."""
        detector = getattr(self.params.resolve(stage, name), "detector", None)
        if detector is None:
            return {}
        known = self.params.detect.methods
        if detector not in known:
            raise ParamsError(
                f"{stage} method {name!r} reads the scores of detector {detector!r}, which "
                f"detect.methods does not name. {suggestion(detector, known)}"
            )
        if scores_model(detector):
            scoring = ", ".join(other for other in known if not scores_model(other))
            raise ParamsError(
                f"{stage} method {name!r} reads the scores of detector {detector!r}, which gives a "
                f"verdict on the whole model instead; with scores: {scoring or 'none'}."
            )
        return {"detector": f"detect/{victim.path}/{detector}"}

    def _evaluate(self) -> Iterator[Cell]:
        for victim in self._victims:
            for repair, model in self._models(victim).items():
                for trigger, attack in self._triggers(victim.attack).items():
                    path = f"{victim.path}/{repair}/{trigger}"
                    inputs = {
                        "corpus": f"download/{victim.corpus}",
                        "model": model,
                        "trigger": f"poison/{victim.corpus}/{attack}/seed{victim.seed}",
                    }
                    yield self._cell("evaluate", path, "", victim.seed, inputs)

    def _models(self, victim: _Victim) -> dict[str, str]:
        """Return the cells that made a victim and its repaired selves, by repair."""
        repairs = {
            name: f"{stage}/{victim.path}/{name}"
            for stage in ("unlearn", "baselines")
            for name in self._methods(stage)
        }
        return {"none": f"pretrain/{victim.path}", **(repairs if victim.is_repaired else {})}

    def _triggers(self, attack: str) -> dict[str, str]:
        """Return the triggers that a victim is tried under, each with its attack.

        Its own, or all where it has none. An attack of several names them in ``triggers``.
        """
        attacks = self.params.poison.methods if table.base(attack) == UNPOISONED else (attack,)
        return {
            f"{name}.{part}" if part else name: name
            for name in attacks
            if table.base(name) != UNPOISONED
            for part in getattr(self.params.resolve("poison", name), "triggers", ("",))
        }

    def report(self, names: tuple[str, ...]) -> Cell:
        """Return the cell that reads all others, each in the role of its own name."""
        return self._cell("report", "", "", None, {name: name for name in names})

    def _methods(self, stage: str) -> tuple[str, ...]:
        names: tuple[str, ...] = getattr(self.params.section(stage), "methods", ())
        return names

    def _cell(
        self, stage: str, path: str, name: str, seed: int | None, inputs: Mapping[str, str]
    ) -> Cell:
        return Cell(
            name=f"{stage}/{path}" if path else stage,
            seed=seed,
            inputs=inputs,
            **self._made_of(stage, name),
        )

    def _made_of(self, stage: str, name: str) -> dict[str, Any]:
        """Return what all cells of one method share."""
        cache = self.__dict__.setdefault("_made", {})
        if (stage, name) not in cache:
            cache[stage, name] = self._resolved(stage, name)
        made: dict[str, Any] = cache[stage, name]
        return made

    def _resolved(self, stage: str, name: str) -> dict[str, Any]:
        shared = self.params.section(stage).shared()
        modules = [f"clipmend.stages.{stage}"]
        settings: dict[str, Any] = {}
        files: dict[str, str] = {}
        if name:
            source = self.params.source(stage, name)
            modules.append(table.reference(stage, source)[0])
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
            "code": fingerprint.digests(*modules),
            "files": files,
        }

    def _method_files(self, place: str, model: BaseModel) -> dict[str, str]:
        """Return the files and folders of the user's own that a method's settings name."""
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
        """Return the model config and the checkpoint that pretraining starts from, if files."""
        model, pretrained = self.params.pretrain.model, self.params.pretrain.pretrained
        packaged = f"{PACKAGED}{CONFIGS}/{model}.json"
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
