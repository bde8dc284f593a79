"""What a job has to do, in passes: a pass is one pair through both towers, forward and back.

Read from the settings and from what each method does with a pair; a forward pass is a third of a
pass, a view of a pair another one. It is the ratio between jobs that counts, not the unit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from clipmend.engine.cell import Cell
from clipmend.methods.table import base

FORWARD = 1 / 3
_WATCHED = 500  # images, of the curve of a victim (clip/curve.py)
_POINTS = 10  # of a victim's curve (clip/fit.py)
_SURROGATE = 10_000  # pairs that a surrogate is trained on, at most (attacks/surrogate.py)
_SECRETS = 32  # images of a step of `issba`'s fit (attacks/issba.py)

# Pairs of a step that are embedded, beside one with gradients: views, a frozen twin, a bank.
_OBJECTIVES = {"mmcl": 1.0, "siglip": 1.0, "mmcl_ssl": 2.0, "roclip": 1.0, "safeclip": 2.0}


@dataclass(frozen=True)
class Sizes:
    """Pairs of a corpus's splits."""

    train: int
    trusted: int
    val: int
    test: int

    @property
    def pairs(self) -> int:
        """Pairs of all splits."""
        return self.train + self.trusted + self.val + self.test


@dataclass(frozen=True)
class Asked:
    """What one job was asked to do.

    Attributes:
        method: without its variant.
    """

    method: str
    settings: Mapping[str, Any]
    shared: Mapping[str, Any]
    sizes: Sizes

    def count(self, name: str, otherwise: int | float = 0) -> float:
        """Return a setting that is a number."""
        value = self.settings.get(name, otherwise)
        return float(value) if isinstance(value, int | float) else float(otherwise)


def passes(cell: Cell, sizes: Sizes) -> float | None:
    """Return the passes of a job; None for one that has none to speak of.

    Args:
        cell: the job, or one with the settings of a card.
        sizes: of its corpus.
    """
    of_stage = _STAGES.get(cell.stage)
    if of_stage is None:
        return None
    return of_stage(Asked(base(cell.method), cell.settings, cell.shared, sizes))


def _poison(asked: Asked) -> float | None:
    """Return what an attack that fits its trigger trains, its surrogate first."""
    if "surrogate_epochs" in asked.settings:
        pairs = asked.sizes.train
        if not asked.settings.get("known_start"):
            pairs = min(_SURROGATE, pairs)
        fitted = asked.count("epochs") * asked.count("images")
        return asked.count("surrogate_epochs") * pairs + fitted
    if asked.method == "issba":  # an encoder and a decoder
        return 2 * _SECRETS * asked.count("steps")
    return None


def _pretrain(asked: Asked) -> float:
    once = _OBJECTIVES.get(asked.method, 1.0)
    chunk = asked.shared.get("loop", {}).get("chunk")
    if chunk is not None and chunk < asked.count("batch_size"):
        once *= 1 + FORWARD  # a chunk is encoded again when the gradient comes to it
    watched = _POINTS * 2 * min(_WATCHED, asked.sizes.val) * FORWARD
    return asked.count("epochs", 1) * asked.sizes.train * once + watched


def _detect(asked: Asked) -> float:
    rows, epochs = asked.sizes.train, asked.count("epochs", 1)
    if asked.method == "ubt":  # looks twice, at several views first; overfits suspects and as many
        looks = (asked.count("views") + 2) * FORWARD * rows
        return looks + epochs * 2 * asked.count("suspect_share", 1) * rows
    if asked.method == "cognitive_distillation":
        return asked.count("steps") * rows
    if asked.method == "decree":
        return asked.count("starts") * epochs * asked.count("images")
    if asked.method == "pud":
        shares = [float(share) for share in asked.settings.get("shares", ())]
        examples = len(shares) * (asked.count("adversarial_share") * asked.count("steps") + FORWARD)
        return (epochs * sum(shares) + examples) * rows
    return FORWARD * rows


def _unlearn(asked: Asked) -> float:
    """Return what forgetting takes: each step has a batch of normal pairs beside the suspects."""
    steps = ceil(asked.count("pairs", 64) / asked.count("batch_size", 16))
    beside = asked.count("batch_size", 16) + asked.count("normal_batch_size", 96)
    return asked.count("epochs", 1) * steps * beside + 2 * FORWARD * asked.sizes.train


def _baselines(asked: Asked) -> float:
    pairs = asked.count("pairs") or float(asked.sizes.trusted)
    epochs = asked.count("epochs", 1)
    images = min(int(asked.shared.get("curve_images", _WATCHED)), asked.sizes.val)
    watched = min(int(asked.shared.get("curve_epochs", _POINTS)), epochs) * 2 * images * FORWARD
    return _fitted(asked, pairs, epochs) + watched


def _fitted(asked: Asked, pairs: float, epochs: float) -> float:
    if asked.method == "cleanclip":
        return epochs * pairs * (2.0 if asked.count("ssl_weight", 1) else 1.0)
    if asked.method == "par":  # the victim looks on
        return epochs * pairs * (1 + FORWARD)
    if asked.method == "adversarial_ft":
        return epochs * pairs * (1 + asked.count("steps", 3))
    if asked.method == "abl":  # each isolated pair beside its negatives
        beside = 1 + asked.count("negatives", 128) / asked.count("batch_size", 64)
        climbed = epochs * beside * asked.count("isolated", 0.01) * asked.sizes.train
        return climbed + asked.count("finetune_epochs") * pairs
    if asked.method == "pud":
        kept = asked.count("kept_share", 0.6) * asked.sizes.train
        attacked = 1 + asked.count("adversarial_share", 0.5) * asked.count("steps", 3)
        return (epochs + asked.count("unlearning_epochs")) * attacked * kept
    return epochs * pairs


def _evaluate(asked: Asked) -> float:
    """Return clean and triggered images once, and the steps of the adversary on some of them."""
    adversarial = asked.shared.get("adversarial", {})
    images = min(int(adversarial.get("images", 0)), asked.sizes.test)
    steps = int(adversarial.get("steps", 0)) * (10 if adversarial.get("ensemble") else 1)
    attacked = len(adversarial.get("epsilons", ())) * images * steps
    return 2 * FORWARD * asked.sizes.test + 2 * FORWARD * attacked


_STAGES: Mapping[str, Callable[[Asked], float | None]] = {
    "poison": _poison,
    "pretrain": _pretrain,
    "detect": _detect,
    "unlearn": _unlearn,
    "baselines": _baselines,
    "evaluate": _evaluate,
}
