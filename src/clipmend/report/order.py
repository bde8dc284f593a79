"""Where a cell stands in the grid, and the one order in which tables and figures show the grid."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clipmend.engine.job import Input
from clipmend.methods.table import base

UNPOISONED = "unpoisoned"
UNDEFENDED = "none"

_FIRST_METHODS = (UNDEFENDED, "ft", "cleanclip", "ubt")
_FIRST_VARIANTS = ("", "random", "oracle")
_FIRST_OBJECTIVES = ("mmcl", "mmcl_ssl", "siglip", "roclip", "safeclip")


@dataclass(frozen=True)
class Victim:
    """The undefended model that a cell is about."""

    corpus: str
    attack: str
    objective: str
    seed: int

    @property
    def is_poisoned(self) -> bool:
        """Whether the attack changes any pair at all."""
        return is_poisoned(self.attack)

    @property
    def path(self) -> str:
        """Return the victim as cells name it."""
        return f"{self.corpus}/{self.attack}/{self.objective}/seed{self.seed}"


def is_poisoned(attack: str) -> bool:
    """Return whether the attack changes any pair at all."""
    return base(attack) != UNPOISONED


def under(attack: str, trigger: str) -> str:
    """Return " under <trigger>" where an attack's name does not say it, as several triggers do."""
    return "" if trigger == attack else f" under {trigger}"


def victim_of(cell: str) -> Victim:
    """Return the victim named by a cell ``<stage>/<corpus>/<attack>/<objective>/seed<k>/…``."""
    _, corpus, attack, objective, seed, *_ = cell.split("/")
    return Victim(corpus, attack, objective, int(seed.removeprefix("seed")))


def inputs_of(inputs: Mapping[str, Input], *stages: str) -> list[Input]:
    """Return the inputs that belong to the given stages."""
    return [given for given in inputs.values() if given.stage in stages]


def method_order(name: str) -> tuple[int, str, int, str]:
    """Return a sort key: the undefended model, the repairs of the default grid, then the alphabet.

    The order is that of the names alone, never of ``params.yaml``: naming the same methods
    in another order leaves the report's key, and so must leave its bytes.
    """
    root, _, variant = name.partition("@")
    return (_rank(root, _FIRST_METHODS), root, _rank(variant, _FIRST_VARIANTS), variant)


def attack_order(name: str) -> tuple[bool, str]:
    """Return a sort key: ``unpoisoned`` first, then the alphabet."""
    return (is_poisoned(name), name)


def objective_order(name: str) -> tuple[int, str, str]:
    """Return a sort key: those of the default grid, others, those that defend, the alphabet."""
    root, _, variant = name.partition("@")
    return (_rank(root, _FIRST_OBJECTIVES), root, variant)


def victim_order(victim: Victim) -> tuple[Any, ...]:
    """Return a sort key: corpus, attack, objective, seed."""
    place = attack_order(victim.attack), objective_order(victim.objective)
    return (victim.corpus, *place, victim.seed)


def titles(victims: Iterable[Victim]) -> dict[Victim, str]:
    """Return a title for each victim that tells it from the others, and says no more."""
    shown = set(victims)
    corpora = {victim.corpus for victim in shown}
    seeds = {victim.seed for victim in shown}
    return {
        victim: ", ".join(
            ([victim.corpus] if len(corpora) > 1 else [])
            + [victim.attack, victim.objective]
            + ([f"seed {victim.seed}"] if len(seeds) > 1 else [])
        )
        for victim in shown
    }


def _rank(name: str, first: tuple[str, ...]) -> int:
    return first.index(name) if name in first else len(first)
