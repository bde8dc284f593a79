"""Settings that can never work, refused before any training.

What the parameters alone decide is refused with them. What a corpus must have is frozen in the plan
and checked as soon as its files exist: when a run starts, and before a job poisons or trains.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain
from math import floor
from pathlib import Path
from typing import Any

from clipmend.data.artifacts import TEST, TRAIN, TRUSTED, VAL
from clipmend.engine.cell import RESULTS, Cell
from clipmend.engine.contradictions import methods_of
from clipmend.engine.params import PARAMS, Params
from clipmend.errors import ArtifactError, ParamsError
from clipmend.methods import table

VIT = "a vision transformer of open_clip"
OWN = "an image tower of open_clip's own"
CLASSES, PROMPTS = "classes", "prompts"  # counted like the pairs of a split
RAREST = "pairs of the rarest class in `trusted`"  # counted too
_SPLITS = (TRAIN, TRUSTED, TEST)  # whose pairs a setting may count
_ENSEMBLE_CLASSES = 4  # AutoAttack's targeted attacks need as many
_BDETCLIP_PROMPTS = 3  # fewer do not describe a class beyond its name
_TRAINS_ON = {
    "poison": "train",
    "pretrain": "train",
    "detect": "train",
    "unlearn": "train",
    "baselines": "trusted",
}


def _least(share: float) -> int:
    """Return the smallest number of pairs that have one pair as this share, when rounded."""
    return floor(0.5 / share) + 1  # a half rounds to 0


_COUNTED: dict[str, Callable[[int], int]] = {
    "batch_size": lambda value: value,
    "pairs": lambda value: value,
    "neighbors": lambda value: value + 1,
}
_LEAST: dict[str, Callable[[Any], int]] = {
    **_COUNTED,
    "poison_rate": _least,
    "normal_share": _least,
    "isolated": lambda value: max(3, _least(1 - value)),
    "clusters": lambda value: value,
    "poisons": lambda value: value,
}
"""Setting -> the smallest number of pairs with which a value of it can work."""


@dataclass(frozen=True)
class Need:
    """What a setting needs of every corpus.

    Attributes:
        what: the setting and its value, for the error.
        split: the split whose pairs are counted, ``CLASSES``, ``PROMPTS``, or ``RAREST``.
        least: the smallest number of them.
    """

    what: str
    split: str
    least: int


@dataclass(frozen=True)
class Limits:
    """What the parameters need of a corpus and of the environment.

    Attributes:
        needs: the smallest numbers of pairs.
        targets: the classes that every corpus must have.
        attacked: number of test images that are attacked; None: none is.
        libraries: library -> the setting that needs it.
        towers: the setting that a kind of image tower cannot have -> that kind.
        model: as in ``pretrain.model``.
        labeled: a split whose every pair needs a class -> the setting that needs it.
        layers: the setting that names a layer of the image tower -> the number of that layer.
    """

    needs: tuple[Need, ...]
    targets: tuple[str, ...]
    attacked: int | None
    libraries: Mapping[str, str]
    towers: Mapping[str, str]
    model: str
    labeled: Mapping[str, str]
    layers: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """Return the limits as plain values."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Limits":
        """Return the limits of a document."""
        needs = tuple(Need(**need) for need in document["needs"])
        return cls(**{**document, "needs": needs, "targets": tuple(document["targets"])})


def limits(params: Params) -> Limits:
    """Return what the parameters need of each corpus.

    Raises:
        ParamsError: a corpus whose numbers of pairs are settings has too few.
    """
    adversarial = params.evaluate.adversarial
    further = (s.get("targets", ()) for _, _, s in methods_of(params, "poison"))
    asked = Limits(
        needs=tuple(_needs(params)),
        targets=tuple(dict.fromkeys([params.poison.target, *chain.from_iterable(further)])),
        attacked=adversarial.images if adversarial.epsilons else None,
        libraries=dict(_libraries(params)),
        towers=dict(_towers(params)),
        model=params.pretrain.model,
        labeled=dict(_labeled(params)),
        layers={
            f"baselines method {name!r} has first_layer": settings["first_layer"]
            for _, name, settings in methods_of(params, "baselines")
            if "first_layer" in settings
        },
    )
    for corpus in params.download.corpora:
        settings = params.resolve("download", corpus).model_dump()
        prompts = settings.get("prompts")
        counted = {PROMPTS: len(prompts)} if isinstance(prompts, tuple) else {}
        check_counts(asked, corpus, _most(settings) | counted)
    return asked


def check_counts(asked: Limits, corpus: str, counts: Mapping[str, int]) -> None:
    """Refuse a corpus with fewer pairs or classes than a setting needs.

    Args:
        counts: the known numbers, by split.

    Raises:
        ParamsError: a number is too small.
    """
    for need in asked.needs:
        if counts.get(need.split, need.least) < need.least:
            is_named = need.split in (CLASSES, PROMPTS, RAREST)
            unit = need.split if is_named else f"pairs in `{need.split}`"
            raise ParamsError(
                f"{PARAMS}: {need.what} needs at least {need.least} {unit}, but the corpus "
                f"{corpus!r} has {counts[need.split]}. Change one of the two."
            )


def check_finished(asked: Limits, cell: Cell) -> None:
    """Refuse a finished corpus with fewer pairs than a setting needs.

    Raises:
        ParamsError: a number is too small.
    """
    if len(_most(cell.settings)) < len(_SPLITS):  # else it was refused with the parameters
        check_counts(asked, cell.place.corpus, counts_in(RESULTS / cell.name))


def counts_in(corpus: Path) -> dict[str, int]:
    """Return the numbers of pairs in the splits of a finished corpus; empty if one is damaged."""
    if not all(map(_is_parquet, (corpus / name for name in _SPLITS))):
        return {}
    # Imported here: a plan whose corpora are all rendered needs no Arrow.
    from pyarrow import ArrowException

    from clipmend.data.pairs import count_pairs

    try:
        return {Path(name).stem: count_pairs(corpus / name) for name in _SPLITS}
    except (ArrowException, ArtifactError, OSError):
        return {}  # the stage that reads the file says what is wrong with it


def _is_parquet(path: Path) -> bool:
    """Return whether a file begins as a Parquet file does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def check_corpus(asked: Limits, name: str, corpus: Path) -> None:
    """Refuse a finished corpus on which a later stage of the run would fail.

    Raises:
        ClipmendError: a number is too small, or a class or a library is missing. Or the attacked
            images are all of one target, or a repair does not support the image tower.
    """
    sizes = counts_in(corpus)
    if not sizes:
        return
    from clipmend.data.splits import read_vocabulary

    vocabulary = read_vocabulary(corpus)
    named = {CLASSES: len(vocabulary.classes), PROMPTS: len(vocabulary.prompts)}
    check_counts(asked, name, sizes | named)
    for target in asked.targets:
        if target not in vocabulary.classes:
            raise ParamsError(
                f"{PARAMS}: the target {target!r} is not a class of the corpus {name!r}. "
                f"The classes are: {', '.join(vocabulary.classes)}."
            )
    for library, setting in asked.libraries.items():
        if find_spec(library) is None:
            raise ParamsError(
                f"{PARAMS}: {setting} needs the library {library}, which is not installed "
                "(docs/how-to/install.md lists the extras of clipmend)."
            )
    for split, setting in asked.labeled.items():
        counts = _counts_of_classes(split, setting, name, corpus)
        if split == TRUSTED:
            check_counts(asked, name, {RAREST: min(counts)})
    _refuse_target_alone(asked, name, corpus)
    _refuse_tower(asked)


def _needs(params: Params) -> Iterator[Need]:
    """Yield what the methods need: numbers that the file gives, and shares of at least one pair."""
    yield Need("pretraining", "train", 2)
    yield from _needs_of_inputs(params)
    if params.evaluate.adversarial.ensemble and params.evaluate.adversarial.epsilons:
        yield Need("evaluate.adversarial.ensemble", CLASSES, _ENSEMBLE_CLASSES)
    rates = [s["poison_rate"] for _, _, s in methods_of(params, "poison") if "poison_rate" in s]
    for stage, name, settings in methods_of(params):
        place, split = f"{stage} method {name!r}", _TRAINS_ON[stage]
        if stage == "baselines" or settings.get("reference") == "trusted":
            yield Need(f"{place}, which trains on batches,", "trusted", 2)
        # A default that is too large means all pairs; a number in the file means that number.
        ignored = _COUNTED.keys() - params.given(stage, name).keys()
        for setting, least in _LEAST.items():
            value = settings.get(setting)
            if value and setting not in ignored:
                yield Need(f"{place} has {setting} {value} and", split, least(value))
        if "images_per_class" in params.given(stage, name):
            few = settings["images_per_class"]
            yield Need(f"{place} has images_per_class {few} and", RAREST, few)
        for rate in rates if settings.get("poisons") else ():
            what = f"{place} has poisons {settings['poisons']} and, with poison_rate {rate},"
            yield Need(what, "train", floor((settings["poisons"] - 0.5) / rate))


def _needs_of_inputs(params: Params) -> Iterator[Need]:
    """Yield what detectors of inputs need."""
    for name in params.detect.methods:
        place = f"detect method {name!r}"
        if table.scores_of(name) == "inputs":
            yield Need(f"{place}, which sets its threshold on one of them,", "trusted", 2)
        if table.base(name) == "bdetclip":
            yield Need(place, PROMPTS, _BDETCLIP_PROMPTS)


def _most(settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the largest numbers of pairs that a source can give, as far as its settings say."""
    return {
        split: settings[split]
        for split in (Path(name).stem for name in _SPLITS)
        if isinstance(settings.get(split), int)
        and settings.get("path") is None
        and settings.get(f"{split}_path") is None
    }


def _libraries(params: Params) -> Iterator[tuple[str, str]]:
    if params.evaluate.adversarial.ensemble and params.evaluate.adversarial.epsilons:
        yield "pyautoattack", "evaluate.adversarial.ensemble"
    for _, name, settings in methods_of(params, "detect"):
        if settings.get("search") == "approximate":
            yield "faiss", f"detect.settings.{name}.search"


def _towers(params: Params) -> Iterator[tuple[str, str]]:
    for _, name, settings in methods_of(params, "unlearn"):
        if settings.get("patches"):
            yield f"unlearn.settings.{name}.patches", VIT
    for _, name, _ in methods_of(params, "baselines"):
        if table.base(name) == "fine_pruning":
            yield f"baselines method {name!r}", OWN
        if table.base(name) == "rvpt":
            yield f"baselines method {name!r}", VIT


def _labeled(params: Params) -> Iterator[tuple[str, str]]:
    if "linear_probe" in params.evaluate.further:
        yield VAL, "evaluate.further names 'linear_probe', which"
    for _, name, _ in methods_of(params, "baselines"):
        if table.base(name) == "rvpt":
            yield TRUSTED, f"baselines method {name!r}"


def _counts_of_classes(split: str, setting: str, name: str, corpus: Path) -> list[int]:
    """Return the number of pairs of each class; refuse pairs without one, or one class alone."""
    from clipmend.data.pairs import read_manifest
    from clipmend.data.splits import read_vocabulary

    classes = read_vocabulary(corpus).classes
    labels = read_manifest(corpus / split)["label"].to_pylist()
    missing = sum(label not in classes for label in labels)
    if missing or len(set(labels)) < 2:
        raise ParamsError(
            f"{PARAMS}: {setting} needs a class for each pair of `{Path(split).stem}` and two "
            f"classes or more; in the corpus {name!r}, {missing} of {len(labels)} pairs have none, "
            f"and there are {len({*labels} & {*classes})} classes. Remove it, or label the split."
        )
    return [labels.count(one) for one in classes]


def _refuse_target_alone(asked: Limits, name: str, corpus: Path) -> None:
    """Refuse a sample of attacked images that are all of one target."""
    if asked.attacked is None:
        return
    from clipmend.data.pairs import read_manifest
    from clipmend.data.sampling import sample

    test = read_manifest(corpus / TEST)
    rows = sample(test["id"].to_pylist(), asked.attacked)
    labels = {test["label"][row].as_py() for row in rows.tolist()}
    if len(labels) == 1 and labels <= {*asked.targets}:
        raise ParamsError(
            f"{PARAMS}: evaluate.adversarial.images is {asked.attacked}, and all of these images "
            f"of the corpus {name!r} are of the target {labels.pop()!r}; raise it."
        )


def _refuse_tower(asked: Limits) -> None:
    """Refuse a repair that the image tower of the victims does not support."""
    if not asked.towers:
        return
    from clipmend.model.architecture import model_config

    vision = model_config(asked.model)["model_cfg"]["vision_cfg"]
    is_own = not vision.get("timm_model_name")
    is_vit = is_own and isinstance(vision.get("layers"), int)
    for setting, kind in asked.towers.items():
        if not (is_vit if kind == VIT else is_own):
            raise ParamsError(
                f"{PARAMS}: {setting} needs {kind}, but the image tower of {asked.model!r} is none."
            )
    for setting, layer in asked.layers.items():
        if layer >= vision["layers"]:
            raise ParamsError(
                f"{PARAMS}: {setting} {layer}, but the image tower of {asked.model!r} has "
                f"{vision['layers']} layers, counted from 0; lower it."
            )
