"""Values of settings that exclude each other; they are refused when the grid is spanned."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from clipmend.engine.cell import UNPOISONED
from clipmend.engine.params import PARAMS, Params
from clipmend.errors import ParamsError
from clipmend.methods import table


@dataclass(frozen=True)
class _Rule:
    """Values of a method's settings that exclude each other.

    Attributes:
        methods: the methods, as stage/name; a stage alone means all of its methods.
        settings: the names of the settings.
        refuses: whether the values of these settings exclude each other.
        why: what is allowed, as the end of a sentence.
    """

    methods: str
    settings: tuple[str, ...]
    refuses: Callable[..., bool]
    why: str


_RULES = (
    _Rule(
        "pretrain",
        ("early_epoch", "epochs"),
        lambda early, epochs: early > epochs,
        "the early checkpoint is of an epoch of the training",
    ),
    _Rule(
        "pretrain/safeclip",
        ("epochs", "in_modal_epochs"),
        lambda epochs, in_modal: epochs <= in_modal + 1,
        "an epoch must remain after the in-modal ones and the cautious one",
    ),
    _Rule(
        "poison/blended",
        ("redrawn", "pattern"),
        lambda redrawn, pattern: redrawn and pattern in ("triangles", "text"),
        "only blocks, noise and stripes can be redrawn for each image",
    ),
    _Rule(
        "poison/multi",
        ("triggers", "targets"),
        lambda triggers, targets: len({*triggers}) < len(triggers) or len(targets) >= len(triggers),
        "each trigger is named once, and one of them has `poison.target`",
    ),
    _Rule(
        "detect/decree",
        ("images", "batch_size"),
        lambda images, batch: min(images, batch) < 2,
        "images are compared with each other, so both are at least 2",
    ),
    _Rule(
        "detect",
        ("neighbors", "reference"),
        lambda neighbors, reference: isinstance(reference, int) and neighbors >= reference,
        "the reference set must have more pairs than `neighbors`",
    ),
    _Rule(
        "unlearn/pud",
        ("kept_share", "suspect_share"),
        lambda kept, suspect: kept + suspect > 1 + 1e-9,  # shares such as 0.9 + 0.1 round
        "their sum is at most 1",
    ),
    _Rule(
        "unlearn/pud",
        ("detector",),
        lambda detector: table.base(detector) != "pud",
        "it starts from the purified model of the detector pud, and no other saves one",
    ),
    _Rule(
        "baselines/cleanclip",
        ("mmcl_weight", "ssl_weight"),
        lambda *weights: not any(weights),
        "one of them must be above 0",
    ),
    _Rule(
        "baselines/cleanclip",
        ("pairs", "poisons"),
        lambda pairs, poisons: 0 < pairs < poisons,
        "poisons replace some of the pairs",
    ),
    _Rule(
        "baselines/cleanclip",
        ("pairs", "clusters"),
        lambda pairs, clusters: 0 < pairs < clusters,
        "a cluster has at least one of the pairs",
    ),
)


def refuse(params: Params) -> None:
    """Refuse settings of the grid's methods with which a job could never end.

    Raises:
        ParamsError: settings exclude each other.
    """
    for stage, name, settings in methods_of(params):
        for rule in _RULES:
            is_meant = rule.methods in (stage, f"{stage}/{table.base(name)}")
            values = [settings.get(setting) for setting in rule.settings]
            if is_meant and None not in values and rule.refuses(*values):
                given = " and ".join(
                    f"{setting} {value}"
                    for setting, value in zip(rule.settings, values, strict=True)
                )
                raise ParamsError(f"{PARAMS}: {stage} method {name!r} has {given}; {rule.why}.")
        if settings.get("poisons") and UNPOISONED in map(table.base, params.poison.methods):
            raise ParamsError(
                f"{PARAMS}: {stage} method {name!r} has poisons {settings['poisons']}, but a "
                f"victim of `{UNPOISONED}` has no poisoned pair. Remove one from its list."
            )
    for corpus in params.download.corpora:
        _refuse_large_patch(params, corpus)


def methods_of(params: Params, *stages: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield stage, name and resolved settings of every method of the grid but the sources."""
    lists = {stage: params.section(stage) for stage in stages or tuple(table.METHODS)[1:]}
    for stage, section in lists.items():
        names: tuple[str, ...] = section.methods  # type: ignore[attr-defined]
        if stage == "pretrain":
            names += params.pretrain.unrepaired.methods
        for name in names:
            yield stage, name, params.resolve(stage, name).model_dump()


def _refuse_large_patch(params: Params, corpus: str) -> None:
    side = params.resolve("download", corpus).model_dump().get("image_size")
    for stage, name, settings in methods_of(params, "poison"):
        if side is None or "size" not in settings:
            continue
        margin = 0 if settings.get("place") == "middle" else settings.get("margin", 0)
        if settings["size"] + margin > side:
            raise ParamsError(
                f"{PARAMS}: {stage} method {name!r} has size {settings['size']} and margin "
                f"{margin}, but images of the corpus {corpus!r} are {side} pixels wide."
            )
