"""``params.yaml`` as typed values; a file that does not describe a run is refused in one line."""

import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from clipmend.engine import presets, schema
from clipmend.engine.schema import problems
from clipmend.errors import ParamsError, PlanError, UnknownNameError, suggestion
from clipmend.methods import table
from clipmend.methods.settings import Count, Natural
from clipmend.model.arithmetic import Arithmetic

PARAMS = Path("params.yaml")


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        verb = "is" if len(repeated) == 1 else "are"
        raise ValueError(f"{', '.join(repeated)} {verb} listed twice")
    return values


def is_name(value: str) -> bool:
    """Return whether a text can name a method, a corpus, or a folder of a cell."""
    # A name is a folder below results/: it has no slash, and no dot in front.
    return re.fullmatch(r"[a-z0-9][\w.+-]*(@[\w.+-]+)?", value, flags=re.ASCII) is not None


def _checked_name(value: str) -> str:
    if len(value) > 100:
        raise ValueError("has more than 100 characters")
    if not is_name(value):
        raise ValueError(f"{value!r} is not a name such as 'ubt' or 'ubt@random'")
    return value


def _is_template(value: str) -> str:
    if value.count("{}") != 1 or set("{}") & set(value.replace("{}", "")):
        raise ValueError("must contain `{}` exactly once, where the target goes")
    return value


def _or_empty(value: object) -> object:
    """Return an empty mapping for null, which YAML reads where all settings are comments."""
    return {} if value is None else value


Name = Annotated[str, AfterValidator(_checked_name)]
Template = Annotated[str, AfterValidator(_is_template)]
Names = Annotated[tuple[Name, ...], AfterValidator(_unique)]
Seeds = Annotated[
    tuple[Natural, ...], AfterValidator(_unique), Field(min_length=1, max_length=1000)
]
PixelSteps = Annotated[int, Field(ge=1, le=255)]
Settings = Annotated[
    dict[str, Annotated[dict[str, JsonValue], BeforeValidator(_or_empty)]],
    BeforeValidator(_or_empty),
]


class Section(BaseModel):
    """A frozen block of ``params.yaml`` that refuses a misspelled key.

    Attributes:
        methods: the methods that run, in the order of the report; a variant is `method@variant`.
        settings: settings by method or variant; a variant changes those of its method.
    """

    # An unknown key is refused: a misspelled setting would silently keep its default.
    model_config = ConfigDict(frozen=True, extra="forbid")

    def shared(self) -> dict[str, Any]:
        """Return the settings of the stage, which are in the key of each of its cells."""
        return self.model_dump(mode="json", exclude={"corpora", "methods", "settings"})


class Download(Section):
    """The corpora. Each is a source with its settings.

    Attributes:
        corpora: the corpora; a name other than a source's needs a setting `source`.
        rows_per_shard: rows per file of a split, rounded up to groups of 128; null: one file.
    """

    corpora: Annotated[Names, Field(min_length=1)]
    rows_per_shard: Count | None = None
    settings: Settings = {}

    def shared(self) -> dict[str, Any]:
        """Return how splits are cut into files; empty if they are not."""
        # Without the setting the key is the same as before the setting existed.
        return super().shared() if self.rows_per_shard is not None else {}

    @property
    def methods(self) -> tuple[str, ...]:
        """The corpora, which are for ``download`` what methods are for the other stages."""
        return self.corpora


class Poison(Section):
    """The attacker: the target, the captions of poisoned pairs, and the attacks.

    Attributes:
        target: the class that the attacker wants triggered images to be predicted as.
        target_captions: caption templates of poisoned pairs; `{}` marks the place of the target.
    """

    target: str
    target_captions: Annotated[tuple[Template, ...], Field(min_length=1)]
    methods: Annotated[Names, Field(min_length=1)]
    settings: Settings = {}


class Unrepaired(Section):
    """Further objectives whose victims are evaluated without detection and repair.

    They are meant for defenses at training time.

    Attributes:
        methods: the objectives.
        attacks: the attacks that they are trained under; an empty list: all attacks.
    """

    methods: Names = ()
    attacks: Names = ()


class Loop(Section):
    """How a pretraining step is computed. The objective defines the batch and its loss.

    Attributes:
        precision: number format of the forward pass; `auto`: bfloat16 on a GPU, float32 on a CPU.
        chunk: samples that a process encodes at once, for batches too large for memory; null: all.
        grad_checkpointing: whether activations are computed again in the backward pass.
        compile: whether torch compiles the model.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    chunk: Count | None = None
    grad_checkpointing: bool = False
    compile: bool = False


class Pretrain(Section):
    """The model and the objectives that train it.

    Attributes:
        model: a config of `clipmend/model/configs`, the path of a `.json`, or an open_clip name.
        pretrained: the start of training, an open_clip tag or a checkpoint; null: from scratch.
        loop: how a pretraining step is computed.
        unrepaired: further objectives whose victims are evaluated without detection and repair.
    """

    model: str
    pretrained: str | None = None
    loop: Loop = Loop()
    methods: Annotated[Names, Field(min_length=1)]
    unrepaired: Unrepaired = Unrepaired()
    settings: Settings = {}

    def shared(self) -> dict[str, Any]:
        """Return the model, and the loop settings that differ from the default."""
        # A loop setting may change the rounding, so it is in the key. The lists of objectives are
        # not: a further objective must leave the other victims proven.
        changed = self.loop.model_dump(mode="json", exclude_defaults=True)
        loop = {"loop": changed} if changed else {}
        return {"model": self.model, "pretrained": self.pretrained, **loop}


class Detect(Section):
    """The detectors of poisoned pairs and of poisoned models."""

    methods: Names = ()
    settings: Settings = {}


class Repairs(Section):
    """The repairs of a stage.

    Attributes:
        curve_epochs: epochs of a repair that are measured for its curve, evenly spread.
        curve_images: validation images that each point of the curve is measured on.
    """

    curve_epochs: Count = 10
    curve_images: Count = 500
    methods: Names = ()
    settings: Settings = {}


class Unlearn(Repairs):
    """The repairs that work on the training pairs, poison included."""


class Baselines(Repairs):
    """The repairs that work on trusted clean pairs."""


class Adversarial(Section):
    """The adversarial examples that every model is evaluated on.

    Attributes:
        images: test images that are attacked.
        steps: steps of projected gradient descent (PGD).
        epsilons: largest changes of a pixel, in steps of 1/255; an empty list: no measurement.
        ensemble: whether AutoAttack runs too, at each bound; it takes minutes per model.
    """

    images: Count = 500
    steps: Count = 20
    epsilons: Annotated[tuple[PixelSteps, ...], AfterValidator(_unique)] = (2,)
    ensemble: bool = False


class Evaluate(Section):
    """How models are evaluated.

    Attributes:
        adversarial: the adversarial examples that every model is evaluated on.
        confidence: confidence level of all intervals.
        further: further numbers, which cost more: recall of captions and images (`retrieval`),
            a classifier on frozen embeddings (`linear_probe`), and each tower beside the other
            one of the unpoisoned victim (`tower_swap`).
    """

    adversarial: Adversarial = Adversarial()
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    further: Annotated[
        tuple[Literal["retrieval", "linear_probe", "tower_swap"], ...], AfterValidator(_unique)
    ] = ()

    def shared(self) -> dict[str, Any]:
        """Return the settings; without further numbers, as before there were any."""
        settings = super().shared()
        return settings if self.further else {k: v for k, v in settings.items() if k != "further"}


class Report(Section):
    """The report.

    Attributes:
        gallery: poisoned pairs that the gallery shows of each attack.
    """

    gallery: Natural = 6


class Params(Section):
    """All of ``params.yaml``: the grid and every setting in it.

    Attributes:
        seeds: seeds of poisoning, initialization, order and repair; corpora do not depend on them.
        device: where models are computed; it is recorded on every card, and part of no key.
        arithmetic: `portable` gives the same bytes on every x86-64 processor with AVX2; `fastest`
            leaves each library to choose by the processor. It is part of every key.
    """

    seeds: Seeds
    device: Literal["auto", "cpu", "cuda"] = "auto"
    arithmetic: Arithmetic = "portable"
    download: Download
    poison: Poison
    pretrain: Pretrain
    detect: Detect
    unlearn: Unlearn
    baselines: Baselines
    evaluate: Evaluate
    report: Report

    def section(self, stage: str) -> Section:
        """Return the block of one stage."""
        section: Section = getattr(self, stage)
        return section

    def resolve(self, stage: str, name: str) -> BaseModel:
        """Return all settings of a method: its own over those of its base over the defaults.

        Raises:
            ParamsError: a setting that the method does not have, or a value that is not allowed.
        """
        settings = self.given(stage, name)
        source = self.source(stage, name)
        if stage == "download":
            settings.pop("source", None)  # it chooses the class, which does not have it
        model = schema.declaration(*table.reference(stage, source))
        try:
            return model.model_validate(settings)
        except ValidationError as error:
            raise _refusal(f"{stage}.settings.{name}", error, model) from None

    def source(self, stage: str, name: str) -> str:
        """Return the method that ``name`` stands for: a corpus has a source, all else itself.

        Raises:
            UnknownNameError: the source does not exist.
        """
        if stage != "download":
            return name
        source = self.given(stage, name).get("source", table.base(name))
        if not isinstance(source, str) or source not in table.METHODS["download"]:
            known = table.METHODS["download"]
            raise UnknownNameError(f"source of corpus {name!r}:", str(source), known)
        return source

    def given(self, stage: str, name: str) -> dict[str, Any]:
        """Return the settings that the file gives a method, its own over those of its base.

        Raises:
            ParamsError: the name is a variant without settings.
        """
        settings: Settings = self.section(stage).settings  # type: ignore[attr-defined]
        if "@" in name and name not in settings:
            raise ParamsError(
                f"{PARAMS}: {stage} names {name!r}, but {stage}.settings has no such entry; "
                f"a variant is a named set of settings. {suggestion(name, settings)}"
            )
        return {**settings.get(table.base(name), {}), **settings.get(name, {})}


def load(path: Path = PARAMS) -> Params:
    """Return the parameters in a file, with every name and setting checked.

    The file may be a preset, which is merged over the presets that it extends.

    Raises:
        ParamsError: the file does not describe a run; the message is one line.
    """
    files = presets.chain(path)
    if path == PARAMS and len(files) > 1:
        # DVC reads this file too, and knows no presets.
        what = f"{path} must be complete, but it is a preset that extends another. "
        raise ParamsError(f"{what}Write it with `clipmend preset NAME --out params.yaml`.")
    return checked(presets.merged(files))


def load_preset(name: str) -> Params:
    """Return the parameters of a preset.

    Raises:
        ParamsError: the preset does not exist, or it does not describe a run.
    """
    return load(presets.preset(name))


def checked(values: object) -> Params:
    """Return parameters from plain values, with every name and setting checked.

    Raises:
        ParamsError: the values do not describe a run; the message is one line.
    """
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise _refusal("", error, Params) from None
    for stage in table.METHODS:
        section = params.section(stage)
        methods: tuple[str, ...] = section.methods  # type: ignore[attr-defined]
        # Settings of a method that no list names are checked too, if its source can be read.
        for name in dict.fromkeys((*methods, *section.settings)):  # type: ignore[attr-defined]
            with suppress(*(() if name in methods else (PlanError,))):
                params.resolve(stage, name)
    _check_unrepaired(params)
    return params


def _check_unrepaired(params: Params) -> None:
    """Refuse an objective that is both repaired and unrepaired, and an attack not in the grid."""
    unrepaired, known = params.pretrain.unrepaired, params.poison.methods
    for name in unrepaired.methods:
        params.resolve("pretrain", name)
        if name in params.pretrain.methods:
            raise ParamsError(
                f"{PARAMS}: pretrain.unrepaired.methods names {name!r}, which pretrain.methods "
                "names too. Remove it from one list: its victims are either repaired or not."
            )
    for attack in unrepaired.attacks:
        if attack not in known:
            raise ParamsError(
                f"{PARAMS}: pretrain.unrepaired.attacks names {attack!r}, which poison.methods "
                f"does not. {suggestion(attack, known)}"
            )


def _refusal(place: str, error: ValidationError, model: type[BaseModel]) -> ParamsError:
    return ParamsError(f"{PARAMS}: {problems(place, error, schema.keys(model))}")
