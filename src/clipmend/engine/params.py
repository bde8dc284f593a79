"""``params.yaml`` as typed values, refused with one line when it does not describe a run."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from clipmend.engine import schema
from clipmend.errors import ParamsError, UnknownNameError, suggestion
from clipmend.methods import table
from clipmend.methods.settings import Count, Natural

PARAMS = Path("params.yaml")

Settings = dict[str, dict[str, JsonValue]]


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} stands there twice")
    return values


def _is_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][\w.+-]*(@[\w.+-]+)?", value, flags=re.ASCII):
        raise ValueError(f"{value!r} is not a name such as 'ubt' or 'ubt@random'")
    return value


def _is_template(value: str) -> str:
    if value.count("{}") != 1 or set("{}") & set(value.replace("{}", "")):
        raise ValueError("a caption has {} once, in the target's place, and no other braces")
    return value


Name = Annotated[str, AfterValidator(_is_name)]
Template = Annotated[str, AfterValidator(_is_template)]
Names = Annotated[tuple[Name, ...], AfterValidator(_unique)]
Seeds = Annotated[tuple[Natural, ...], AfterValidator(_unique), Field(min_length=1)]


class Section(BaseModel):
    """A frozen block of ``params.yaml``, in which a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def shared(self) -> dict[str, Any]:
        """Return the settings of the stage as a whole, which are in the key of all its cells."""
        return self.model_dump(mode="json", exclude={"corpora", "methods", "settings"})


class Download(Section):
    """The corpora, each a source and its settings.

    ``rows_per_shard``: a split of more rows lies in several files of that many, rounded up to
    whole groups of 128; null: in one, however large.
    """

    corpora: Annotated[Names, Field(min_length=1)]
    rows_per_shard: Count | None = None
    settings: Settings = {}

    def shared(self) -> dict[str, Any]:
        """Return how splits are cut, if they are: a cell that is not keeps its key."""
        return super().shared() if self.rows_per_shard is not None else {}

    @property
    def methods(self) -> tuple[str, ...]:
        """The corpora: they are to ``download`` what methods are to the other stages."""
        return self.corpora


class Poison(Section):
    """What the attacker wants, and how."""

    target: str
    target_captions: Annotated[tuple[Template, ...], Field(min_length=1)]
    methods: Annotated[Names, Field(min_length=1)]
    settings: Settings = {}


class Unrepaired(Section):
    """Further objectives, whose victims are measured as they are: no detector, no repair.

    Training-time defenses are what they are for. Of the attacks these are tried; all where none
    is named.
    """

    methods: Names = ()
    attacks: Names = ()


class Loop(Section):
    """How a step of pretraining is computed; the batch and its loss are the objective's.

    ``auto`` is bfloat16 on a GPU, float32 on a CPU. ``chunk``: how many samples a process encodes
    at once, for batches that do not fit into memory.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    chunk: Count | None = None
    grad_checkpointing: bool = False
    compile: bool = False


class Pretrain(Section):
    """The model and the objectives."""

    model: str
    pretrained: str | None = None
    loop: Loop = Loop()
    methods: Annotated[Names, Field(min_length=1)]
    unrepaired: Unrepaired = Unrepaired()
    settings: Settings = {}

    def shared(self) -> dict[str, Any]:
        """Return the model, and what of the loop is not the default, as it may round otherwise.

        Which objectives there are is in no key.
        """
        changed = self.loop.model_dump(mode="json", exclude_defaults=True)
        loop = {"loop": changed} if changed else {}
        return {"model": self.model, "pretrained": self.pretrained, **loop}


class Detect(Section):
    """The detectors."""

    methods: Names = ()
    settings: Settings = {}


class Unlearn(Section):
    """The repairs that work on the training pairs, and how often their curves are measured."""

    curve_epochs: Annotated[int, Field(ge=1)] = 10
    curve_images: Annotated[int, Field(ge=1)] = 500
    methods: Names = ()
    settings: Settings = {}


class Baselines(Section):
    """The repairs that work on trusted pairs, and how often their curves are measured."""

    curve_epochs: Annotated[int, Field(ge=1)] = 10
    curve_images: Annotated[int, Field(ge=1)] = 500
    methods: Names = ()
    settings: Settings = {}


class Adversarial(Section):
    """Against what adversarial examples the models are measured.

    ``epsilons`` are bounds on the change of a pixel, of 255; with none nothing is measured.
    ``ensemble`` measures AutoAttack at each of them too, which takes minutes a model.
    """

    images: Annotated[int, Field(ge=1)] = 500
    steps: Annotated[int, Field(ge=1)] = 20
    epsilons: Annotated[
        tuple[Annotated[int, Field(ge=1, le=255)], ...], AfterValidator(_unique)
    ] = (2,)
    ensemble: bool = False


class Evaluate(Section):
    """How the numbers are taken."""

    adversarial: Adversarial = Adversarial()
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class Report(Section):
    """What the report shows."""

    gallery: Natural = 6


class Params(Section):
    """The whole of ``params.yaml``: the grid and every setting in it."""

    seeds: Seeds
    device: Literal["auto", "cpu", "cuda"] = "auto"
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
        """Return the settings of ``name`` with its base's below them and defaults filled in.

        Raises:
            ParamsError: a setting that the method does not have, or a value it does not allow.
        """
        settings = self._layered(stage, name)
        source = self.source(stage, name)
        if stage == "download":
            settings.pop("source", None)
        module, cls = table.reference(stage, source)
        model = schema.declaration(module, cls)
        try:
            return model.model_validate(settings)
        except ValidationError as error:
            place = f"{stage}.settings.{name}"
            raise ParamsError(_sentence(place, error, _children(model))) from None

    def source(self, stage: str, name: str) -> str:
        """Return the method behind ``name``: itself, but for a corpus its source."""
        if stage != "download":
            return name
        source = self._layered(stage, name).get("source", table.base(name))
        if source not in table.METHODS["download"]:
            known = table.METHODS["download"]
            raise UnknownNameError(f"source of corpus {name!r}:", str(source), known)
        return str(source)

    def _layered(self, stage: str, name: str) -> dict[str, JsonValue]:
        settings: Settings = self.section(stage).settings  # type: ignore[attr-defined]
        if "@" in name and name not in settings:
            raise ParamsError(
                f"{PARAMS}: {stage} names {name!r}, but {stage}.settings has no such entry; "
                f"a variant is a named set of settings. {suggestion(name, settings)}"
            )
        return {**settings.get(table.base(name), {}), **settings.get(name, {})}


def load(path: Path = PARAMS) -> Params:
    """Return the parameters in a file, every name and setting in it checked.

    Raises:
        ParamsError: the file does not describe a run; all in one line.
    """
    try:
        params = Params.model_validate(_read(path))
    except ValidationError as error:
        raise ParamsError(_sentence("", error, _children(Params))) from None
    for stage, name in _named(params):
        params.resolve(stage, name)
    _check_unrepaired(params)
    return params


def _check_unrepaired(params: Params) -> None:
    """Refuse an objective that is both repaired and not, and an attack that is not in the grid."""
    unrepaired, known = params.pretrain.unrepaired, params.poison.methods
    for name in unrepaired.methods:
        if name in params.pretrain.methods:
            raise ParamsError(
                f"{PARAMS}: pretrain.unrepaired.methods names {name!r}, which pretrain.methods "
                "names too; its victims are repaired or they are not."
            )
    for attack in unrepaired.attacks:
        if attack not in known:
            raise ParamsError(
                f"{PARAMS}: pretrain.unrepaired.attacks names {attack!r}, which poison.methods "
                f"does not. {suggestion(attack, known)}"
            )


def _named(params: Params) -> Iterator[tuple[str, str]]:
    """Yield every method that the file names, whether the grid holds it or only its settings."""
    for stage in table.METHODS:
        section = params.section(stage)
        for name in dict.fromkeys((*section.methods, *section.settings)):  # type: ignore[attr-defined]
            yield stage, name
    for name in params.pretrain.unrepaired.methods:
        yield "pretrain", name


def _read(path: Path) -> object:
    try:
        return yaml.load(path.read_text(), Loader=_StrictLoader)
    except FileNotFoundError:
        raise ParamsError(
            f"{path} does not exist here; copy one of params/*.yaml to it, in the project's folder."
        ) from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands there twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def _children(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the keys that a block may have, nested blocks below them."""
    return {
        name: _children(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else {}
        for name, field in model.model_fields.items()
    }


def _sentence(place: str, error: ValidationError, known: Mapping[str, Any]) -> str:
    return f"{PARAMS}: {problems(place, error, known)}"


def problems(place: str, error: ValidationError, known: Mapping[str, Any]) -> str:
    """Return all that pydantic found below ``place`` as one line; ``known`` are the keys there."""
    told = []
    for problem in error.errors(include_url=False):
        loc = [str(part) for part in problem["loc"]]
        where = ".".join([place, *loc] if place else loc) or "the file"
        if problem["type"] == "extra_forbidden":
            siblings = known
            for part in loc[:-1]:
                siblings = siblings.get(part, {})
            told.append(f"unknown key {where}. {suggestion(loc[-1], siblings)}")
        elif problem["type"] == "missing":
            told.append(f"{where} is missing.")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            told.append(f"{where}: {text}, not {problem['input']!r}.")
    return " ".join(told)
